//! `tollgate explain`: what would happen to a request, and why. Nothing is sent.
//!
//! The stages of the exchange themselves are asked, over a cache that is empty and a
//! ledger that nobody keeps, so that what is explained is what would be done.

mod page;
mod remote;
#[cfg(test)]
mod tests;

use self::page::Page;
use super::{
    Failure, admin::AdminAt, block_on, scratch::Scratch, unreadable, warn_line, write_text,
};
use crate::{
    app::{self, with_causes},
    explain::{From, request, walk},
    respond,
};
use bytes::Bytes;
use http::request as http_request;
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tollgate_config::{Config, UpstreamTls, WarningKind};
use tollgate_ledger::Uuid;

/// The longest request that is read.
const REQUEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Explain what would happen to a request; without one, what the routes do. With --admin, what a
/// running instance would do, and why a call missed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate explain -c tollgate.yaml\n  \
    tollgate explain -c tollgate.yaml --request request.http\n  \
    echo '{\"path\":\"/v1/chat/completions\",\"body\":{\"model\":\"gpt-4o\"}}' |\n    \
    tollgate explain -c tollgate.yaml --request -\n  \
    tollgate explain --admin http://127.0.0.1:9900 --request request.http\n  \
    tollgate explain -c tollgate.yaml --record 01a1fedb-2d7f-7000-8e08-b73d3455d4a4")]
pub(super) struct Explain {
    /// HTTP/1.1 text or JSON {"method","path","headers","body"}; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// A call of late (its `tollgate-record`) that an instance did not answer from its cache
    #[arg(long, value_name = "ID", conflicts_with = "request")]
    record: Option<Uuid>,
    /// Who asks: decides whether claims in headers are believed
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    peer: IpAddr,
    /// The version that the model says it is of, for the key
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    model_version: String,
    #[command(flatten)]
    at: AdminAt,
}

impl Explain {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if self.record.is_some() || self.at.is_named() {
            write_text(&self.ask_instance()?);
            return Ok(());
        }
        if self.at.has_token_file() {
            let line = "--token-file: only with --admin or --record".to_owned();
            return Err(Failure::Input(vec![line]));
        }
        let source = self.at.config().source()?.ok_or_else(|| {
            Failure::Input(vec!["no configuration: give -c FILE or TOLLGATE_CONFIG".to_owned()])
        })?;
        let (config, warnings) = source.read()?;
        for warning in warnings.iter().filter(|warning| warning.kind == WarningKind::Missing) {
            warn_line(&warning.to_string());
        }
        let request = self.read_request()?;
        let from = From { peer: self.peer, version: self.model_version };
        write_text(&block_on(explain(config, request, from))??);
        Ok(())
    }
}

impl Explain {
    fn read_request(&self) -> Result<Option<(http_request::Parts, Bytes)>, Failure> {
        let Some(file) = &self.request else { return Ok(None) };
        let name = format!("--request {}", file.display());
        let text = read(file).map_err(|error| unreadable(&name, &error))?;
        let request = request::read(&text);
        request.map(Some).map_err(|what| Failure::Input(vec![format!("{name}: {what}")]))
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(REQUEST_BYTES_MAX).read_to_end(&mut text)?;
    } else {
        fs::File::open(file)?.take(REQUEST_BYTES_MAX).read_to_end(&mut text)?;
    }
    Ok(text)
}

async fn explain(
    config: Config,
    request: Option<(http_request::Parts, Bytes)>,
    from: From,
) -> Result<String, Failure> {
    let scratch = Scratch::new()
        .map_err(|error| Failure::Environment(format!("a temporary directory: {error}")))?;
    // Nothing is to be sent, not even to a store.
    let data_dir = scratch.path().to_owned();
    let mut config = Config { redis: None, memcached: None, postgres: None, data_dir, ..config };
    // So no certificate is needed, and a price file that is missing has been warned of.
    for upstream in &mut config.upstreams {
        upstream.tls = UpstreamTls::default();
    }
    config.cache.trace = None;
    config.prices.files.retain(|file| file.exists());
    let parts = app::parts(Arc::new(config)).await;
    let parts = Arc::new(parts.map_err(|error| Failure::Input(vec![with_causes(&error)]))?);
    let snapshot = parts.snapshot.load_full();
    let Some((head, body)) = request else { return Ok(page::routes(&snapshot)) };
    let asked = format!("{} {}", head.method, head.uri);
    let text = match walk(&parts, &snapshot, head, body, &from).await {
        Ok(way) => page::way(&asked, &snapshot, &way),
        Err(error) => {
            let verdict = respond::verdict(&error);
            page::refusal(&asked, &verdict, &with_causes(&error))
        }
    };
    Ok(text)
}
