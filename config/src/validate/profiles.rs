//! Which other systems' endpoints the telemetry address has.

use crate::{
    Gie, Profiles, Upstream,
    problem::quoted,
    raw_profiles::{RawGie, RawProfiles},
    review::Review,
};

/// Of a name in Kubernetes, and of a host.
const HOST_BYTES_MAX: usize = 253;
const AT: &str = "telemetry.metrics.profiles";

pub(super) fn profiles(
    review: &mut Review<'_>,
    raw: RawProfiles,
    upstreams: &[Upstream],
) -> Profiles {
    let host = raw.keda.and_then(|keda| keda.host); // its absence was reported
    if let Some(host) = &host {
        let is_plain = host.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_plain {
            let message =
                format!("must be 1 to {HOST_BYTES_MAX} visible characters, not {}", quoted(host));
            review.report(format!("{AT}.keda.host"), message);
        }
    }
    let gie = raw.gie.and_then(|raw| gie(review, raw, upstreams));
    Profiles { keda_host: host, gie }
}

fn gie(review: &mut Review<'_>, raw: RawGie, upstreams: &[Upstream]) -> Option<Gie> {
    let name = raw.upstream?; // its absence was reported
    let Some(upstream) = upstreams.iter().find(|upstream| upstream.name == name) else {
        let known = upstreams.iter().map(|upstream| upstream.name.as_str());
        let message = super::no_such("upstream", &name, known);
        review.report(format!("{AT}.gie.upstream"), message);
        return None;
    };
    if upstream.endpoints.len() > 1 {
        let message = "has several endpoints: a model server's numbers are those of one";
        review.report(format!("{AT}.gie.upstream"), message);
    }
    let path = raw.path.unwrap_or_else(|| "/metrics".to_owned());
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !path.starts_with('/') || !is_plain {
        let message = format!("must be a path like /metrics, not {}", quoted(&path));
        review.report(format!("{AT}.gie.path"), message);
    }
    Some(Gie { upstream: upstream.id, path })
}
