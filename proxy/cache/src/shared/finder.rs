//! Finds the servers: the one of the URL, the one the sentinels name, or all of a cluster.
//!
//! One of them is *home*: it holds purges, versions and the channel. With one server that is all
//! there is; in a cluster it is the node that serves the namespace's own slot.

use super::{
    link::Link,
    sentinel,
    site::{Address, RedisMode},
    slots::{self, SlotMap},
    survey::Survey,
};
use redis::{ConnectionInfo, RedisError};

/// Why there is no server to ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    #[error("redis cannot be asked where its servers are; see that it is up and lets us in")]
    Redis(#[from] RedisError),
    #[error("no sentinel knows a master called {0}; see stores.redis.master")]
    NoMaster(String),
    #[error(
        "no node of the redis cluster says who serves what; is it one, and are its slots given out?"
    )]
    NoMap,
    #[error("nobody in the redis cluster serves the slot of tollgate's purges")]
    NoHome,
}

/// Where everything is for now.
pub(super) struct Found {
    pub(super) home: ConnectionInfo,
    /// Home's, where somebody told it.
    pub(super) address: Option<Address>,
    /// Of a cluster.
    pub(super) map: Option<SlotMap>,
}

pub(super) struct Finder<'a> {
    link: &'a Link,
    survey: Survey,
}

impl<'a> Finder<'a> {
    pub(super) fn new(link: &'a Link) -> Self {
        let survey = Survey::of(&link.site.named, link.settings.probe_timeout);
        Self { link, survey }
    }

    pub(super) async fn find(&mut self) -> Result<Found, FindError> {
        let site = &self.link.site;
        match &site.mode {
            RedisMode::Single => Ok(Found { home: site.first(), address: None, map: None }),
            RedisMode::Sentinel(sentinels) => {
                let master = sentinel::master(&mut self.survey, &sentinels.master).await?;
                Ok(Found { home: site.at(&master), address: Some(master), map: None })
            }
            RedisMode::Cluster => {
                let map = slots::map(&mut self.survey).await?;
                let known = map.nodes.iter().map(|node| site.at(node));
                // The URLs first: those nodes an operator has promised.
                self.survey.turn_to(site.named.iter().cloned().chain(known));
                let home = map.owner(self.link.names.home_key());
                let home = home.and_then(|home| map.nodes.get(home)).ok_or(FindError::NoHome)?;
                Ok(Found { home: site.at(home), address: Some(home.clone()), map: Some(map) })
            }
        }
    }
}
