//! Of flights that took each other's place, which are stored.

use super::*;

#[tokio::test]
async fn an_older_flight_is_not_stored_over_the_one_that_took_its_place() {
    let stage = Scene::new();
    let (older, older_feed) = stage.lead(Some(1024), Duration::ZERO);
    let (feed, pieces) = mpsc::channel(64);
    let log = stage.log.clone();
    let lead = stage.flights.lead(key(), rank(RANK));
    let newer =
        lead.start(Box::pin(async move { Ok((Some(1024), Told { pieces, log })) })).unwrap();
    let later = stage.follow();

    feed.send(Next::Last("newer".into())).await.unwrap();
    assert_eq!(read(newer).await.as_deref(), Ok(b"newer".as_slice()));
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(b"newer".as_slice()));
    assert_eq!(read(later).await.as_deref(), Ok(b"newer".as_slice()));
    // Its own listeners get it all the same.
    older_feed.send(Next::Last("older".into())).await.unwrap();
    assert_eq!(read(older).await.as_deref(), Ok(b"older".as_slice()));
    assert_eq!(*stage.log.stored.lock().unwrap(), None);
    assert!(stage.flights.is_empty());
}

#[tokio::test]
async fn an_older_flight_that_ends_first_is_stored_until_the_newer_one_is() {
    let stage = Scene::new();
    let (older, older_feed) = stage.lead(Some(1024), Duration::ZERO);
    let (feed, pieces) = mpsc::channel(64);
    let log = stage.log.clone();
    let lead = stage.flights.lead(key(), rank(RANK));
    let newer =
        lead.start(Box::pin(async move { Ok((Some(1024), Told { pieces, log })) })).unwrap();
    older_feed.send(Next::Last("older".into())).await.unwrap();
    assert_eq!(read(older).await.as_deref(), Ok(b"older".as_slice()));
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(b"older".as_slice()));
    feed.send(Next::Last("newer".into())).await.unwrap();
    assert_eq!(read(newer).await.as_deref(), Ok(b"newer".as_slice()));
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(b"newer".as_slice()));
    assert!(stage.flights.is_empty());
}

#[tokio::test]
async fn of_three_that_took_each_others_place_none_is_stored_over_one_that_was_begun_later() {
    let stage = Scene::new();
    let (first, first_feed) = stage.lead(Some(1024), Duration::ZERO);
    let begin = |log: &Arc<Log>| {
        let (feed, pieces) = mpsc::channel(64);
        let (log, lead) = (log.clone(), stage.flights.lead(key(), rank(RANK)));
        let fetching = Box::pin(async move { Ok((Some(1024), Told { pieces, log })) });
        (lead.start(fetching).unwrap(), feed)
    };
    let (second, _feed) = begin(&stage.log);
    let (third, third_feed) = begin(&stage.log);
    drop(second);
    third_feed.send(Next::Last("third".into())).await.unwrap();
    assert_eq!(read(third).await.as_deref(), Ok(b"third".as_slice()));
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(b"third".as_slice()));
    first_feed.send(Next::Last("first".into())).await.unwrap();
    assert_eq!(read(first).await.as_deref(), Ok(b"first".as_slice()));
    assert_eq!(*stage.log.stored.lock().unwrap(), None, "the last end kept nothing");
    assert!(stage.flights.is_empty());
}
