//! Which server the sentinels say is the master.
//!
//! The one with the newest configuration epoch is believed: a sentinel that was cut off still
//! names the server of before. What it names must say itself that it is the master
//! ([`says_master`]): for some seconds after a failover the old one, come back, thinks so too, but
//! then no longer by that epoch.

use super::{
    finder::FindError,
    site::Address,
    survey::{Survey, Testimony},
};
use redis::{FromRedisValue, Pipeline, Value};
use std::collections::HashMap;

/// Where the set of servers called `name` has its master.
pub(super) async fn master(survey: &mut Survey, name: &str) -> Result<Address, FindError> {
    let (said, why) = survey.ask(&question(name)).await;
    let heard = !said.is_empty();
    let believed = said.iter().filter_map(view).max_by_key(|(epoch, _)| *epoch);
    match (believed, why) {
        (Some((_, address)), _) => Ok(address),
        (None, _) if heard => Err(FindError::NoMaster(name.to_owned())),
        (None, Some(error)) => Err(FindError::Redis(error)),
        (None, None) => Err(FindError::NoMaster(name.to_owned())),
    }
}

fn question(name: &str) -> Pipeline {
    let mut question = redis::pipe();
    question
        .cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .cmd("SENTINEL")
        .arg("MASTER")
        .arg(name)
        .ignore_errors();
    question
}

/// The configuration epoch, and the master's address; `None` from a sentinel that knows none.
fn view(said: &Testimony) -> Option<(u64, Address)> {
    let [address, about] = said.answers.as_slice() else { return None };
    let (host, port) = <(String, u16)>::from_redis_value_ref(address).ok()?;
    let about = HashMap::<String, String>::from_redis_value_ref(about).unwrap_or_default();
    let epoch = about.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Some((epoch, (host, port)))
}

/// Reads the answer of `ROLE`.
pub(super) fn says_master(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    matches!(parts.first(), Some(Value::BulkString(name)) if name == b"master")
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::IntoConnectionInfo;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn said(answers: Vec<Value>) -> Testimony {
        Testimony { server: "redis://h".into_connection_info().unwrap(), answers }
    }

    #[test]
    fn a_sentinels_view_is_an_address_with_its_epoch() {
        let address = Value::Array(vec![text("10.0.0.7"), text("6379")]);
        let about = Value::Array(vec![text("name"), text("m"), text("config-epoch"), text("4")]);
        let expected = Some((4, ("10.0.0.7".to_owned(), 6379)));
        assert_eq!(view(&said(vec![address.clone(), about])), expected);
        let refused = Value::Nil;
        assert_eq!(view(&said(vec![address, refused.clone()])).unwrap().0, 0);
        assert_eq!(view(&said(vec![refused.clone(), refused])), None);
        assert_eq!(view(&said(Vec::new())), None);
    }

    #[test]
    fn only_a_master_says_that_it_is_one() {
        assert!(says_master(&Value::Array(vec![text("master"), Value::Int(0)])));
        assert!(!says_master(&Value::Array(vec![text("slave"), text("h")])));
        assert!(!says_master(&Value::Nil));
    }
}
