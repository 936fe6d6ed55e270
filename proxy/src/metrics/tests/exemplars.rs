//! Which records the text of OpenMetrics shows.

use super::*;

#[test]
fn every_bucket_that_counts_shows_one_record_to_openmetrics_and_none_to_the_classic_text() {
    let stage = Stage::new();
    let slow = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);
    let fast = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0002);
    stage.chat().ended(&CallEnd { record: slow, ..stage.miss() });
    stage.chat().ended(&CallEnd { record: fast, ..stage.hit() });
    let endless = Duration::from_secs(1000);
    stage.chat().ended(&CallEnd { record: fast, total: endless, ..stage.miss() });
    let open = stage.text(Format::OpenMetrics, stage.at(2));
    parse(Format::OpenMetrics, &open).unwrap();
    let shown: Vec<_> = open.lines().filter_map(|line| line.split_once(" # ")).collect();
    let series = |le: &str| {
        format!(
            "tollgate_request_duration_seconds_bucket{{class=\"normal\",route=\"chat\",le=\"{le}\"}}"
        )
    };
    let ended = 0x0192_0000_0000_u64;
    let at = |ms: u64| format!("{}.{:03}", (ended + ms) / 1000, (ended + ms) % 1000);
    assert_eq!(
        shown,
        [
            (
                &*format!("{} 1", series("0.001")),
                &*format!("{{record=\"{fast}\"}} 0.00005 {}", at(0))
            ),
            (&*format!("{} 2", series("0.25")), &*format!("{{record=\"{slow}\"}} 0.2 {}", at(200))),
            (
                &*format!("{} 3", series("+Inf")),
                &*format!("{{record=\"{fast}\"}} 1000 {}", at(1_000_000))
            ),
        ]
    );
    let classic = stage.text(Format::Classic, stage.at(2));
    assert!(!classic.contains("record="), "{classic}");
}
