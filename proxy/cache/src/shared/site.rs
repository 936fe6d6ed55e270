//! Where Redis is, and who we are there.
//!
//! Least that a user of Redis must be allowed (Redis 6 or newer, one line of its ACL file; with
//! sentinels also `+role`, in a cluster also `+cluster|info +cluster|slots +asking`):
//!
//! ```text
//! user tollgate on >PASSWORD resetkeys ~tollgate:* resetchannels &tollgate:* -@all +hello +select +ping
//!   +getrange +set +eval +hget +hset +hmget +hgetall +hincrby +hlen +hdel +del +publish +subscribe
//!   +get +append +exists +pttl +pexpire
//! ```
//!
//! For the channels and streams of `cache.events` also `&CHANNEL`, and `~STREAM +xinfo|stream +xrange +xread`.
//!
//! A user of the sentinels needs `-@all +hello +sentinel|get-master-addr-by-name +sentinel|master`.

use super::{BadRedis, RedisSettings};
use crate::outer::StoreTls;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisError, TlsCertificates,
};

/// How many servers there are, and which of them is asked.
#[derive(Clone, Debug, Default)]
pub enum RedisMode {
    /// The first URL's.
    #[default]
    Single,
    /// Every entry's slot has its server; the URLs are of some of them.
    Cluster,
    /// The one that the sentinels name; the URLs are the sentinels'.
    Sentinel(Sentinels),
}

/// What the sentinels are asked for, and who we are to them. What a URL says of user and password
/// is for its sentinel; [`RedisSettings`]' are for the servers.
#[derive(Clone, Default)]
pub struct Sentinels {
    /// The name of the set of servers.
    pub master: String,
    /// Instead of the URL's.
    pub user: Option<String>,
    /// Instead of the URL's.
    pub password: Option<String>,
}

/// Without the password.
impl std::fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sentinels").field("master", &self.master).finish_non_exhaustive()
    }
}

/// Host and port of a server that was named by another.
pub(super) type Address = (String, u16);

/// Holds secrets; none is shown by `Debug`.
pub(super) struct Site {
    /// Of the URLs: the server, the sentinels, or nodes of the cluster.
    pub(super) named: Vec<ConnectionInfo>,
    /// Any server that holds data, but for its address.
    server: ConnectionInfo,
    pub(super) mode: RedisMode,
}

/// The same server twice: messages come unasked only in RESP3; the answers of commands are read as
/// RESP2 has them.
pub(super) struct Clients {
    pub(super) commands: Client,
    pub(super) messages: Client,
}

impl Site {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, BadRedis> {
        let mut named = Vec::with_capacity(settings.urls.len());
        for url in &settings.urls {
            let info = url.as_str().into_connection_info().map_err(BadRedis::Url)?;
            named.push(with_tls(info, &settings.tls).map_err(BadRedis::Tls)?);
        }
        let first = named.first().ok_or(BadRedis::NoUrl)?.clone();
        let mut of_servers = first.redis_settings().clone();
        if let RedisMode::Sentinel(sentinels) = &settings.mode {
            // The database is the servers', all else the sentinels'.
            of_servers = redis::RedisConnectionInfo::default().set_db(of_servers.db());
            for one in &mut named {
                let who = one.redis_settings().clone().set_db(0);
                let who = identified(who, &sentinels.user, &sentinels.password);
                *one = one.clone().set_redis_settings(who);
            }
        }
        let of_servers = identified(of_servers, &settings.user, &settings.password);
        if !matches!(settings.mode, RedisMode::Sentinel(_)) {
            for one in &mut named {
                *one = one.clone().set_redis_settings(of_servers.clone());
            }
        }
        let server = first.set_redis_settings(of_servers);
        Ok(Self { named, server, mode: settings.mode.clone() })
    }

    /// The server that the first URL names.
    pub(super) fn first(&self) -> ConnectionInfo {
        self.server.clone()
    }

    /// A server of the same kind elsewhere.
    pub(super) fn at(&self, (host, port): &Address) -> ConnectionInfo {
        let address = match self.server.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) | _ => {
                ConnectionAddr::Tcp(host.clone(), *port)
            }
        };
        self.server.clone().set_addr(address)
    }
}

impl Clients {
    pub(super) fn of(server: &ConnectionInfo) -> Result<Self, RedisError> {
        let with = |protocol| {
            let redis = server.redis_settings().clone().set_protocol(protocol);
            Client::open(server.clone().set_redis_settings(redis))
        };
        Ok(Self {
            commands: with(ProtocolVersion::RESP2)?,
            messages: with(ProtocolVersion::RESP3)?,
        })
    }
}

fn identified(
    mut who: redis::RedisConnectionInfo,
    user: &Option<String>,
    password: &Option<String>,
) -> redis::RedisConnectionInfo {
    if let Some(user) = user {
        who = who.set_username(user);
    }
    if let Some(password) = password {
        who = who.set_password(password);
    }
    who
}

/// Where a server is; `None` for a socket in the file system.
pub(super) fn address_of(server: &ConnectionInfo) -> Option<Address> {
    match server.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        ConnectionAddr::Unix(_) | _ => None,
    }
}

fn with_tls(info: ConnectionInfo, tls: &StoreTls) -> Result<ConnectionInfo, RedisError> {
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
