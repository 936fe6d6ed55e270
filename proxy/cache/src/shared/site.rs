//! Where Redis is, and who we are there.
//!
//! Least that a user of Redis must be allowed (Redis 6 or newer, one line of its ACL file):
//!
//! ```text
//! user tollgate on >PASSWORD resetkeys ~tollgate:* resetchannels &tollgate:* -@all +hello +select
//!   +getrange +set +eval +hget +hset +hmget +hgetall +hincrby +hlen +del +publish +subscribe
//! ```

use super::{BadRedis, RedisSettings};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisError, TlsCertificates,
};

/// What is shown to a Redis behind TLS, and what it must show. All PEM.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// Takes the place of the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Our certificates and their key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisTls").finish_non_exhaustive()
    }
}

/// Holds secrets; none is shown by `Debug`.
pub(super) struct Site {
    server: ConnectionInfo,
}

/// The same server twice: messages come unasked only in RESP3; the answers of commands are read as
/// RESP2 has them.
pub(super) struct Clients {
    pub(super) commands: Client,
    pub(super) messages: Client,
}

impl Site {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, BadRedis> {
        let info = settings.url.as_str().into_connection_info().map_err(BadRedis::Url)?;
        let mut redis = info.redis_settings().clone();
        if let Some(user) = &settings.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(password);
        }
        let server = with_tls(info, &settings.tls).map_err(BadRedis::Tls)?;
        Ok(Self { server: server.set_redis_settings(redis) })
    }

    pub(super) fn find(&self) -> Result<Clients, RedisError> {
        let with = |protocol| {
            let redis = self.server.redis_settings().clone().set_protocol(protocol);
            Client::open(self.server.clone().set_redis_settings(redis))
        };
        Ok(Clients {
            commands: with(ProtocolVersion::RESP2)?,
            messages: with(ProtocolVersion::RESP3)?,
        })
    }
}

fn with_tls(info: ConnectionInfo, tls: &RedisTls) -> Result<ConnectionInfo, RedisError> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // The crate asks for the process's provider and panics where none is chosen, or two could be.
    // An error says that one was chosen already.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let client = tls.client.clone();
    let certificates = TlsCertificates {
        client_tls: client
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
        root_cert: tls.ca.clone(),
    };
    Ok(Client::build_with_tls(info, certificates)?.get_connection_info().clone())
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}
