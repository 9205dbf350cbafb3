//! The calculator by itself: each rule of the search, and that no order of events breaks it.

use super::*;

const AUTO: SearchOptions = SearchOptions {
    ceiling: None,
    gentle_start: true,
    max_capacity: 1.0,
    max_inflight: 32,
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Sends at the allowed rate from `from` to `to`, with a latency of 10 ms. Returns the time of the last
/// answer.
fn drive(search: &mut Search, from: f64, to: f64) -> f64 {
    let mut now = from;
    while now < to {
        search.sent(seconds(now));
        now += (1.0 / search.rate().unwrap_or(1000.0)).max(0.0001);
        search.answered(seconds(now), seconds(0.01));
    }
    now
}

/// Sends `count` requests at `now`.
fn send(search: &mut Search, now: f64, count: usize) {
    for _ in 0..count {
        search.sent(seconds(now));
    }
}

#[track_caller]
fn assert_close(left: Option<f64>, right: f64) {
    assert!(
        left.is_some_and(|left| (left - right).abs() < 1e-6 * right),
        "{left:?} isn't {right}"
    );
}

#[test]
fn gentle_start_doubles_every_250_ms_up_to_the_ceiling() {
    for (ceiling, at, rate) in [
        (None, 0.1, 10.0),
        (None, 0.35, 20.0),
        (None, 0.6, 40.0),
        (None, 1.2, 160.0),
        (None, 2.1, 2560.0),
        (Some(7.0), 0.1, 7.0),
        (Some(7.0), 9.0, 7.0),
        (Some(50.0), 0.6, 40.0),
        (Some(50.0), 9.0, 50.0),
    ] {
        let mut search = Search::new(&SearchOptions { ceiling, ..AUTO });
        drive(&mut search, 0.0, at);
        assert_close(search.rate(), rate);
    }
}

#[test]
fn without_gentle_start_only_the_ceiling_limits_the_rate() {
    for (ceiling, before) in [(None, None), (Some(500.0), Some(500.0))] {
        let mut search = Search::new(&SearchOptions {
            ceiling,
            gentle_start: false,
            ..AUTO
        });
        assert_eq!(search.rate(), before);
        let now = drive(&mut search, 0.0, 2.0);
        assert_eq!(search.rate(), before);
        send(&mut search, now, 1);
        search.refused(seconds(now + 0.01), seconds(0.01), 0, None);
        assert!(search.rate().is_some());
    }
}

#[test]
fn a_refused_burst_sets_the_refused_rate() {
    let mut search = Search::new(&SearchOptions {
        gentle_start: false,
        ..AUTO
    });
    // A listing, page by page, then as many rows as may be in flight.
    for page in 0..20_u32 {
        search.sent(seconds(f64::from(page) * 0.1));
        search.answered(seconds(f64::from(page + 1) * 0.1), seconds(0.1));
    }
    send(&mut search, 2.0, 32);
    search.refused(seconds(2.001), seconds(0.001), 31, None);
    assert!(search.rate() >= Some(200.0), "{:?}", search.rate());
}

#[test]
fn an_unused_rate_does_not_grow() {
    let mut search = Search::new(&AUTO);
    let mut now = 0.0;
    while now < 10.0 {
        search.sent(seconds(now));
        search.answered(seconds(now + 0.01), seconds(0.01));
        now += 0.1;
    }
    // Only 10 requests per second are sent, so allowing much more than twice that is useless.
    assert!(search.rate() <= Some(20.0), "{:?}", search.rate());
}

#[test]
fn a_refusal_holds_all_requests_for_its_pause() {
    for (told, pause) in [
        (Some(3.0), 3.0),
        (Some(0.0), 2.0 / 10.0),
        (None, 2.0 / 10.0),
    ] {
        let mut search = Search::new(&AUTO);
        send(&mut search, 0.1, 3);
        search.refused(seconds(0.2), seconds(0.1), 2, told.map(seconds));
        assert_close(
            search.hold_until().map(|until| until.as_secs_f64()),
            0.2 + pause,
        );
        // Two stragglers, and one trial after the hold.
        assert_eq!(search.inflight_limit(), 3);
    }
}

#[test]
fn each_refusal_may_prolong_the_hold_but_not_shorten_it() {
    let mut search = Search::new(&AUTO);
    send(&mut search, 0.1, 4);
    for (now, told, until) in [(0.2, 1.0, 1.2), (0.3, 5.0, 5.3), (0.4, 1.0, 5.3)] {
        search.refused(seconds(now), seconds(now - 0.1), 3, Some(seconds(told)));
        assert_close(search.hold_until().map(|until| until.as_secs_f64()), until);
    }
}

#[test]
fn an_accepted_trial_ends_the_hold() {
    let mut search = Search::new(&AUTO);
    send(&mut search, 0.1, 1);
    search.refused(seconds(0.2), seconds(0.1), 0, Some(seconds(1.0)));
    assert_eq!(search.inflight_limit(), 1);
    search.sent(seconds(1.2));
    assert_eq!(search.inflight_limit(), 1);
    search.answered(seconds(1.25), seconds(0.05));
    assert_eq!(search.inflight_limit(), 32);
    assert!(search.rate() < Some(10.0));
    // The pacer drops the tokens that it accumulated in the hold.
    assert_eq!(search.hold_until(), Some(seconds(1.25)));
}

#[test]
fn each_refused_trial_lengthens_the_pause() {
    let mut search = Search::new(&AUTO);
    send(&mut search, 0.0, 1);
    search.refused(seconds(0.1), seconds(0.1), 0, None);
    let mut pause = 0.0;
    let mut now = 0.1;
    for _ in 0..10 {
        let until = search.hold_until().unwrap_or_default().as_secs_f64();
        assert!(until - now > pause * 1.2, "{until} - {now} after {pause}");
        pause = until - now;
        search.sent(seconds(until));
        now = until + 0.01;
        search.refused(seconds(now), seconds(0.01), 0, None);
        assert_eq!(search.inflight_limit(), 1);
        pause = if pause < 0.25 { 0.0 } else { pause };
    }
}

#[test]
fn a_lost_trial_is_followed_by_another() {
    let mut search = Search::new(&AUTO);
    send(&mut search, 0.0, 1);
    search.refused(seconds(0.1), seconds(0.1), 0, Some(seconds(1.0)));
    search.sent(seconds(1.1));
    search.lost(seconds(31.1));
    search.sent(seconds(31.1));
    search.answered(seconds(31.2), seconds(0.1));
    assert_eq!(search.inflight_limit(), 32);
}

#[test]
fn refused_stragglers_count_as_one_refusal() {
    let mut search = Search::new(&AUTO);
    let now = drive(&mut search, 0.0, 2.0);
    send(&mut search, now, 20);
    search.refused(seconds(now + 0.1), seconds(0.1), 19, None);
    let rate = search.rate();
    for _ in 1..20 {
        search.refused(seconds(now + 0.1), seconds(0.1), 19, None);
    }
    assert_eq!(search.rate(), rate);
    assert_eq!(search.inflight_limit(), 1);
}

#[test]
fn limits_stay_positive_in_any_order_of_events() {
    for seed in 1..20_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut search = Search::new(&SearchOptions {
            ceiling: [None, Some(0.0), Some(3.0), Some(1e9)][random(4) as usize],
            gentle_start: random(2) == 0,
            max_capacity: [1.0, 0.5, 0.0, f64::NAN][random(4) as usize],
            max_inflight: random(40) as usize,
        });
        let mut now = Duration::ZERO;
        for _ in 0..5_000 {
            now += Duration::from_micros(random(300_000));
            let latency = Duration::from_micros(random(2_000_000));
            match random(5) {
                0 | 1 => search.sent(now),
                2 => search.answered(now, latency),
                3 => search.refused(
                    now,
                    latency,
                    random(40) as usize,
                    [None, Some(Duration::MAX), Some(latency)][random(3) as usize],
                ),
                _ => search.lost(now),
            }
            assert!(search.inflight_limit() >= 1);
            assert!(
                search.rate().is_none_or(|rate| rate > 0.0),
                "{:?}",
                search.rate()
            );
        }
    }
}
