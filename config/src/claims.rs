//! How a route finds the class of a call: who asks first, then what the call claims.
//!
//! Words are named by a map. Numbers differ in which way they go, from one client to the next, so it
//! is written down each time: `at_least` where more is more urgent, `at_most` where less is.

use tollgate_core::class::ClassId;

/// How a call's class is found. The default: nobody claims one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassRule {
    /// Tenants that are of a class, whatever their calls claim.
    pub tenants: Vec<(String, ClassId)>,
    /// Lower case. It is asked before `sources`.
    pub header: Option<String>,
    /// Which word of the header claims which class. Words are compared exactly.
    pub map: Vec<(String, ClassId)>,
    /// In the order in which they are asked; the first that says a class counts.
    pub sources: Vec<ClassSource>,
    /// Of claims in headers and bodies.
    pub trust: Trust,
    /// Nobody is more important; `None`: anybody may be.
    pub ceiling: Option<ClassId>,
    /// Tenants with a ceiling of their own, instead of that.
    pub ceilings: Vec<(String, ClassId)>,
}

/// A place in a call that may say its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSource {
    pub from: ClaimedIn,
    pub says: Says,
}

/// Where a claim is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedIn {
    /// Lower case. Of `priority` its urgency `u` (RFC 9218).
    Header(String),
    /// A member of the object that a JSON body is.
    Body(String),
    /// The normalised path.
    Path,
    User,
    Tier,
    Project,
    Business,
}

/// What is claimed by what is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Compared exactly; of the path, whole segments that it begins with, the longest first.
    Words(Vec<(String, ClassId)>),
    /// From such a number on; the greatest first.
    AtLeast(Vec<(i64, ClassId)>),
    /// Up to such a number; the least first.
    AtMost(Vec<(i64, ClassId)>),
}

/// Whose claim to a class is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anyone may claim what the map names.
    Anyone,
    /// These tenants. Empty: nobody.
    Only(Vec<String>),
}

/// Nobody is believed until a route says who is.
impl Default for Trust {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Trust {
    /// Whether `tenant` may claim what the map names.
    pub fn believes(&self, tenant: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Only(tenants) => tenants.iter().any(|own| own == tenant),
        }
    }
}

impl ClassRule {
    /// Of the headers that may claim a class, lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let others = self.sources.iter().filter_map(|source| match &source.from {
            ClaimedIn::Header(name) => Some(name.as_str()),
            ClaimedIn::Body(_)
            | ClaimedIn::Path
            | ClaimedIn::User
            | ClaimedIn::Tier
            | ClaimedIn::Project
            | ClaimedIn::Business => None,
        });
        self.header.as_deref().into_iter().chain(others)
    }

    /// Whether it is the body that may say it.
    pub fn reads_body(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.from, ClaimedIn::Body(_)))
    }

    /// The most important class that a tenant may be of; `None`: any.
    pub fn ceiling_of(&self, tenant: &str) -> Option<ClassId> {
        let own = self.ceilings.iter().find(|(name, _)| name == tenant);
        own.map(|(_, class)| *class).or(self.ceiling)
    }
}

impl ClaimedIn {
    /// As the configuration and its reports name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Body(_) => "body",
            Self::Path => "path",
            Self::User => "user",
            Self::Tier => "tier",
            Self::Project => "project",
            Self::Business => "business",
        }
    }

    /// Of a header or a member.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Header(name) | Self::Body(name) => Some(name),
            Self::Path | Self::User | Self::Tier | Self::Project | Self::Business => None,
        }
    }
}

impl Says {
    /// The class that `said` claims.
    pub fn class(&self, said: &str) -> Option<ClassId> {
        match self {
            Self::Words(map) => find(map, |word| word == said),
            Self::AtLeast(steps) => {
                let number: i64 = said.trim().parse().ok()?;
                find(steps, |step| number >= *step)
            }
            Self::AtMost(steps) => {
                let number: i64 = said.trim().parse().ok()?;
                find(steps, |step| number <= *step)
            }
        }
    }

    /// The class of a path.
    pub fn class_of_path(&self, path: &str) -> Option<ClassId> {
        let Self::Words(map) = self else { return None };
        let is_below = |prefix: &String| {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        find(map, is_below)
    }
}

fn find<K>(list: &[(K, ClassId)], is_meant: impl Fn(&K) -> bool) -> Option<ClassId> {
    list.iter().find(|(key, _)| is_meant(key)).map(|(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(place: u8) -> ClassId {
        ClassId::new(usize::from(place)).unwrap()
    }

    #[test]
    fn more_is_more_urgent_or_less_is_as_it_is_written() {
        let rising = Says::AtLeast(vec![(100, class(0)), (10, class(1))]);
        for (said, wanted) in [("100", Some(0)), ("99", Some(1)), ("9", None), ("-5", None)] {
            assert_eq!(rising.class(said), wanted.map(class), "{said}");
        }
        let falling = Says::AtMost(vec![(-10, class(0)), (2, class(1))]);
        for (said, wanted) in [("-11", Some(0)), ("-10", Some(0)), ("2", Some(1)), ("3", None)] {
            assert_eq!(falling.class(said), wanted.map(class), "{said}");
        }
        for bad in ["", "1.5", "high", "99999999999999999999"] {
            assert_eq!((rising.class(bad), falling.class(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn a_path_is_found_by_whole_segments() {
        let says = Says::Words(vec![("/v1/batches".into(), class(3)), ("/v1".into(), class(1))]);
        for (path, wanted) in [
            ("/v1/batches/7", Some(3)),
            ("/v1/batches", Some(3)),
            ("/v1/batchesx", Some(1)),
            ("/v10", None),
        ] {
            assert_eq!(says.class_of_path(path), wanted.map(class), "{path}");
        }
    }
}
