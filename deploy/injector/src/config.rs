//! What the operator decides for every pod, and the versions and quantities it is
//! written in.
//!
//! Quantities and names are checked when they are read, not when a pod is made: one that
//! the API server refuses would refuse every pod.

use std::{fmt, str::FromStr};

/// What holds for every pod, unless its own annotations say otherwise.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tollgate's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default without.
    pub image_pull_policy: Option<String>,
    /// The secret that the image is pulled with, added to those that the pod has.
    pub image_pull_secret: Option<String>,
    /// Namespaces whose pods are never touched, beside those of [`SYSTEM_NAMESPACES`].
    pub excluded: Vec<String>,
    /// The ConfigMap with `tollgate.yaml` for pods that name none; without one they are
    /// served by `--upstream`, which is a complete set-up.
    pub config_map: Option<String>,
    /// The address that Tollgate listens on in a pod: `0.0.0.0`, or `[::]` where pods
    /// have IPv6 addresses.
    pub bind: String,
    /// Ports of Tollgate in a pod; another is taken where a pod has it.
    pub ports: Preferred,
    /// What the sidecar asks of a node.
    pub resources: Resources,
    /// The longest that the ledger's volume may grow; it lives as long as the pod.
    pub ledger_size: Quantity,
    /// Seconds that a drain may take (`drain.deadline`); the pod's grace period is at
    /// least [`GRACE_BEYOND_DRAIN_S`] longer.
    pub drain_deadline_s: u32,
    /// From which version of the API server on the sidecar is a native one.
    pub native_from: Version,
    /// What becomes of a pod that asked and cannot be served.
    pub on_failure: OnFailure,
}

/// Namespaces that Kubernetes itself lives in: a webhook that got between them and their
/// pods could keep a cluster from coming up.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Time for the server and Tollgate to exit, after the drain.
pub const GRACE_BEYOND_DRAIN_S: u32 = 10;

/// The first version whose API server and kubelet run native sidecars unasked.
pub const NATIVE_SINCE: Version = Version { major: 1, minor: 29 };

/// Ports that are taken unless the pod has them already.
#[derive(Clone, Copy, Debug)]
pub struct Preferred {
    /// Where callers are taken.
    pub listen: u16,
    /// Metrics and probes.
    pub metrics: u16,
    /// The admin API, on loopback.
    pub admin: u16,
}

impl Default for Preferred {
    /// Not 8080, which many servers have and do not name; the others are Tollgate's own.
    fn default() -> Self {
        Self { listen: 18080, metrics: 9464, admin: 9900 }
    }
}

/// What the sidecar asks of a node. Always with requests: an autoscaler that looks at
/// CPU fails for a pod of which one container has none.
#[derive(Clone, Debug)]
pub struct Resources {
    /// CPU that is kept for it.
    pub cpu_request: Quantity,
    /// CPU that it is held to; not at all without.
    pub cpu_limit: Option<Quantity>,
    /// Memory that is kept for it.
    pub memory_request: Quantity,
    /// Memory beyond which it is ended. Its cache takes a quarter of that.
    pub memory_limit: Option<Quantity>,
}

impl Resources {
    /// # Errors
    /// More is kept than it is held to; the API server would refuse the pod.
    pub fn check(&self) -> Result<(), String> {
        let pairs = [
            ("cpu", &self.cpu_request, &self.cpu_limit),
            ("memory", &self.memory_request, &self.memory_limit),
        ];
        for (name, request, limit) in pairs {
            if let Some(limit) = limit
                && request.milli > limit.milli
            {
                return Err(format!(
                    "{name}: a request of {request} is more than the limit {limit}"
                ));
            }
        }
        Ok(())
    }
}

/// What becomes of a pod that asked for Tollgate and cannot be given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    /// It starts without, with a warning and a note among its annotations.
    #[default]
    Allow,
    /// It is refused, with the reason.
    Deny,
}

/// Major and minor version of a Kubernetes server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1, for as long as anybody remembers.
    pub major: u16,
    /// What is released three times a year.
    pub minor: u16,
}

impl FromStr for Version {
    type Err = String;

    /// `1.31`, and what servers make of it: `v1.31.4`, `1.31+`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no version: write it as 1.31");
        let plain = text.strip_prefix('v').unwrap_or(text);
        let (major, rest) = plain.split_once('.').ok_or_else(wrong)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let minor = rest.get(..end).unwrap_or_default();
        Ok(Self {
            major: major.parse().map_err(|_| wrong())?,
            minor: minor.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A quantity of Kubernetes (`100m`, `1.5`, `384Mi`), as it was written and as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    milli: u128,
}

impl FromStr for Quantity {
    type Err = String;

    /// Digits, at most three of them behind a point, and one of Kubernetes' units.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no quantity: write it as 100m, 1.5 or 384Mi");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Up to 12 digits: no unit makes that overflow.
        if whole.is_empty() || whole.len() > 12 || fraction.len() > 3 || number.ends_with('.') {
            return Err(wrong());
        }
        let thousandths = format!("{whole}{fraction:0<3}");
        let thousandths: u128 = thousandths.parse().map_err(|_| wrong())?;
        let milli = match unit {
            "m" if fraction.is_empty() => thousandths / 1000,
            "" => thousandths,
            _ => thousandths * factor(unit).ok_or_else(wrong)?,
        };
        Ok(Self { text: text.to_owned(), milli })
    }
}

fn factor(unit: &str) -> Option<u128> {
    let (base, letters): (u128, &str) = match unit.strip_suffix('i') {
        Some(letter) => (1024, letter),
        None => (1000, unit),
    };
    let power = match letters {
        "k" if base == 1000 => 1,
        "K" if base == 1024 => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    base.checked_pow(power)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn quantities_are_compared_by_what_they_mean() {
        for (less, more) in
            [("100m", "1"), ("1.5", "1501m"), ("999Mi", "1Gi"), ("1G", "1Gi"), ("1M", "1Mi")]
        {
            assert!(quantity(less).milli < quantity(more).milli, "{less} {more}");
        }
        assert_eq!(quantity("1024Ki").milli, quantity("1Mi").milli);
    }

    #[test]
    fn what_the_api_server_would_refuse_is_no_quantity() {
        for text in ["", "m", "-1", "1 Gi", "1MB", "0.1m", "1Mib", "1.", ".5", "1.2.3", "1K", "1e3"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_above_its_limit_is_found() {
        let resources = Resources {
            cpu_request: quantity("1"),
            cpu_limit: None,
            memory_request: quantity("1Gi"),
            memory_limit: Some(quantity("384Mi")),
        };
        assert_eq!(
            resources.check().unwrap_err(),
            "memory: a request of 1Gi is more than the limit 384Mi"
        );
    }

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for text in ["1.31", "v1.31", "1.31+", "v1.31.4-gke.1"] {
            assert_eq!(text.parse(), Ok(Version { major: 1, minor: 31 }), "{text}");
        }
        for text in ["", "1", "1.", "x.31", "1.x", "latest"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!(Version { major: 1, minor: 9 } < NATIVE_SINCE);
    }
}
