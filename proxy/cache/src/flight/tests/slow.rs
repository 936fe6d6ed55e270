//! Of listeners who do not keep up with an answer that is not recorded.

use super::*;

/// A fast and a slow listener of an answer that is not kept, and pieces of which two fill the window.
async fn fast_and_slow(stage: &Scene) -> (Listener<Told>, Listener<Told>, mpsc::Sender<Next>) {
    let (mut fast, feed) = stage.lead(Some(1 << 30), Duration::ZERO);
    let mut slow = stage.follow();
    fast.head().await.unwrap();
    slow.head().await.unwrap();
    fast.flight.lock().give_up();
    (fast, slow, feed)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_holds_the_others_up_for_a_second_and_loses_the_answer() {
    let stage = Scene::new();
    let (mut fast, mut slow, feed) = fast_and_slow(&stage).await;
    let big = Bytes::from(vec![0; 200 * 1024]);
    for _ in 0..6 {
        feed.send(Next::Piece(big.clone())).await.unwrap();
    }
    feed.send(Next::End).await.unwrap();
    let began = time::Instant::now();
    for _ in 0..6 {
        assert_eq!(piece(&mut fast).await.len(), big.len());
    }
    assert_eq!(began.elapsed().as_secs(), 1, "once, not for each piece");
    assert!(poll_fn(|cx| fast.poll_piece(cx)).await.is_none(), "it has the whole");
    assert!(poll_fn(|cx| slow.poll_piece(cx)).await.unwrap().is_err(), "and this one is told");
}

#[tokio::test(start_paused = true)]
async fn who_reads_now_and_then_uses_up_the_patience_of_the_others_only_while_they_wait() {
    let stage = Scene::new();
    let (mut fast, mut slow, feed) = fast_and_slow(&stage).await;
    let big = Bytes::from(vec![0; 200 * 1024]);
    for _ in 0..8 {
        feed.send(Next::Piece(big.clone())).await.unwrap();
    }
    feed.send(Next::End).await.unwrap();
    for _ in 0..2 {
        piece(&mut fast).await;
    }
    for _ in 0..5 {
        let full = poll_fn(|cx| Poll::Ready(fast.poll_piece(cx).is_pending())).await;
        assert!(full);
        time::advance(Duration::from_millis(100)).await;
        piece(&mut slow).await;
        piece(&mut fast).await;
        // Nobody waits for anybody in this time.
        time::advance(Duration::from_secs(60)).await;
    }
    for _ in 0..3 {
        piece(&mut slow).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_fills_the_window_by_itself_holds_nobody_up_for_longer() {
    let stage = Scene::new();
    let (mut fast, mut slow, feed) = fast_and_slow(&stage).await;
    let big = Bytes::from(vec![0; 300 * 1024]);
    for _ in 0..4 {
        feed.send(Next::Piece(big.clone())).await.unwrap();
    }
    feed.send(Next::End).await.unwrap();
    let began = time::Instant::now();
    for _ in 0..4 {
        assert_eq!(piece(&mut fast).await.len(), big.len());
    }
    assert_eq!(began.elapsed().as_secs(), 1);
    assert!(fast.flight.lock().held_pieces() <= 1, "one is as much as is held for the slow");
    assert!(poll_fn(|cx| slow.poll_piece(cx)).await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn one_who_lost_the_answer_and_leaves_takes_nothing_from_one_who_is_only_slower() {
    let stage = Scene::new();
    let (mut fast, stuck, feed) = fast_and_slow(&stage).await;
    let mut slower = {
        let seat = fast.flight.lock().admit();
        Listener { flight: fast.flight.clone(), seat, waiting: None }
    };
    let big = Bytes::from(vec![0; 60 * 1024]);
    for _ in 0..10 {
        feed.send(Next::Piece(big.clone())).await.unwrap();
    }
    feed.send(Next::End).await.unwrap();
    for round in 0..10 {
        assert_eq!(piece(&mut fast).await.len(), big.len());
        if round > 1 {
            assert_eq!(piece(&mut slower).await.len(), big.len());
        }
    }
    drop(stuck);
    for _ in 0..2 {
        assert_eq!(piece(&mut slower).await.len(), big.len());
    }
    assert!(poll_fn(|cx| fast.poll_piece(cx)).await.is_none());
    assert!(poll_fn(|cx| slower.poll_piece(cx)).await.is_none(), "it has the whole");
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_the_last_piece_of_the_window_untaken_takes_nothing_from_late_joiners() {
    let stage = Scene::new();
    let (mut leader, feed) = streaming(&stage, Some(1024)).await;
    feed.send(Next::Piece("a".into())).await.unwrap();
    piece(&mut leader).await;
    // All come late: what there was is in no window any more.
    let (mut caught_up, late) = (stage.follow(), stage.follow());
    assert_eq!(piece(&mut caught_up).await, "a");
    feed.send(Next::Piece("b".into())).await.unwrap();
    piece(&mut leader).await;
    drop(caught_up);
    feed.send(Next::End).await.unwrap();
    assert!(poll_fn(|cx| leader.poll_piece(cx)).await.is_none());
    assert_eq!(read(late).await.as_deref(), Ok(b"ab".as_slice()));
}
