//! Repeated rows and renames: compares runs of random files with a simple sequential model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sigma_bulk::sandbox::Member;

use crate::harness::{Api, Bench, user};

/// A row of a random file: the member and its new values.
#[derive(Clone, Debug, Default)]
struct Row {
    member: usize,
    first: Option<u8>,
    last: Option<u8>,
    /// Another member's email, or a free one.
    email: Option<usize>,
}

/// The expected outcome of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Updated,
    Unchanged,
    Empty,
    Invalid,
    NotFound,
    Failed,
}

fn email(n: usize) -> String {
    format!("user{n}@x.org")
}

fn render(rows: &[Row]) -> String {
    let mut text = "Email,First Name,Last Name,New Email\n".to_owned();
    for row in rows {
        let name = |value: Option<u8>| value.map(|value| format!("N{value}")).unwrap_or_default();
        let new = row.email.map(email).unwrap_or_default();
        text += &format!(
            "{},{},{},{new}\n",
            email(row.member),
            name(row.first),
            name(row.last)
        );
    }
    text
}

/// Applies the rows to `members` one by one and returns the expected outcomes. The model finds contradictions
/// by comparing all pairs of rows, and applies a rename as soon as its new email is free.
fn model(members: &mut BTreeMap<String, Member>, rows: &[Row]) -> Vec<Fate> {
    let mut fates = vec![None; rows.len()];
    // Find contradictions, and new emails that rows of several members claim.
    for (i, a) in rows.iter().enumerate() {
        for b in rows {
            let differ =
                |x: Option<usize>, y: Option<usize>| matches!((x, y), (Some(x), Some(y)) if x != y);
            let small = |x: Option<u8>| x.map(usize::from);
            let contradicts = a.member == b.member
                && (differ(small(a.first), small(b.first))
                    || differ(small(a.last), small(b.last))
                    || differ(a.email, b.email));
            if contradicts || (a.member != b.member && a.email.is_some() && a.email == b.email) {
                fates[i] = Some(Fate::Invalid);
            }
        }
    }
    // Find cycles by following each rename.
    let wants: BTreeMap<usize, usize> = rows
        .iter()
        .filter_map(|row| Some((row.member, row.email?)))
        .rev()
        .collect();
    for (i, row) in rows.iter().enumerate() {
        let (Some(mut at), mut seen) = (row.email, BTreeSet::new()) else {
            continue;
        };
        if at == row.member {
            continue;
        }
        while let Some(next) = wants
            .get(&at)
            .filter(|next| **next != at && seen.insert(at))
        {
            at = *next;
            if at == row.member {
                fates[i].get_or_insert(Fate::Invalid);
                break;
            }
        }
    }
    // All rows target the members as they were at the start.
    let at_start: BTreeMap<String, String> = members
        .values()
        .map(|member| (member.email.clone(), member.member_id.clone()))
        .collect();
    // Find emails that somebody keeps: no row gives them up, or the renames after them end at such an email.
    for (row, fate) in rows.iter().zip(&mut fates) {
        let Some(mut at) = row.email.filter(|new| *new != row.member) else {
            continue;
        };
        let mut seen = BTreeSet::new();
        while let Some(next) = wants.get(&at).filter(|_| seen.insert(at)) {
            at = *next;
        }
        if at_start.contains_key(&email(row.member)) && at_start.contains_key(&email(at)) {
            fate.get_or_insert(Fate::Invalid);
        }
    }
    // Pass over the file repeatedly. A row waits while the member that has its new email has unfinished rows.
    loop {
        let mut moved = false;
        for i in 0..rows.len() {
            let row = &rows[i];
            let earlier_left = rows[..i]
                .iter()
                .zip(&fates)
                .any(|(other, fate)| other.member == row.member && fate.is_none());
            let holder_left = row
                .email
                .filter(|new| *new != row.member && wants.contains_key(new))
                .is_some_and(|new| {
                    rows.iter()
                        .zip(&fates)
                        .any(|(other, fate)| other.member == new && fate.is_none())
                });
            if fates[i].is_some() || earlier_left || holder_left {
                continue;
            }
            fates[i] = Some(apply(members, &at_start, row));
            moved = true;
        }
        if !moved {
            return fates
                .into_iter()
                .map(|fate| fate.unwrap_or(Fate::Failed))
                .collect();
        }
    }
}

fn apply(
    members: &mut BTreeMap<String, Member>,
    at_start: &BTreeMap<String, String>,
    row: &Row,
) -> Fate {
    if row.first.is_none() && row.last.is_none() && row.email.is_none() {
        return Fate::Empty;
    }
    let Some(id) = at_start.get(&email(row.member)) else {
        return Fate::NotFound;
    };
    let before = members[id].clone();
    let mut after = before.clone();
    let set = |field: &mut String, value: Option<u8>| {
        if let Some(value) = value {
            *field = format!("N{value}");
        }
    };
    set(&mut after.first_name, row.first);
    set(&mut after.last_name, row.last);
    if let Some(new) = row.email {
        after.email = email(new);
    }
    if after == before {
        return Fate::Unchanged;
    }
    if members
        .values()
        .any(|other| other.member_id != *id && other.email == after.email)
    {
        return Fate::Failed;
    }
    members.insert(id.clone(), after);
    Fate::Updated
}

fn check(rows: &[Row], population: usize, mode: &str) -> Result<(), TestCaseError> {
    let (api, bench) = (Api::with((1..=population).map(user)), Bench::new());
    let mut expected = api.state();
    let fates = model(&mut expected, rows);
    let ran = bench.update(&api, render(rows), &["--lookup", mode, "--quiet"]);
    prop_assert!(
        matches!(ran.code, Some(0 | 1)),
        "{:?} {}",
        ran.code,
        ran.stderr
    );
    let outcomes = bench.outcomes();
    for (index, (outcome, fate)) in outcomes.iter().zip(&fates).enumerate() {
        let name = match fate {
            Fate::Updated => "updated",
            Fate::Unchanged => "unchanged",
            Fate::Empty => "empty",
            Fate::Invalid => "invalid",
            Fate::NotFound => "not_found",
            Fate::Failed => "failed",
        };
        prop_assert_eq!(outcome, name, "row {} of\n{}", index + 1, render(rows));
    }
    let now = api.state();
    for (id, member) in &expected {
        prop_assert_eq!(&now[id], member);
    }
    prop_assert!(
        api.stats().peak_in_flight_one_member <= 1,
        "two requests at once for one member"
    );
    bench.check_files();
    Ok(())
}

fn rows(members: usize, most: usize) -> impl Strategy<Value = Vec<Row>> {
    // Members beyond the population do not exist, so their emails are free.
    let row = (
        1..=members + members / 4 + 1,
        prop::option::of(0..2_u8),
        prop::option::of(0..2_u8),
    )
        .prop_flat_map(move |(member, first, last)| {
            prop::option::weighted(0.4, 1..=members * 2).prop_map(move |email| Row {
                member,
                first,
                last,
                email,
            })
        });
    prop::collection::vec(row, 1..most)
}

fn run_property(members: usize, most: usize, cases: u32) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    });
    runner
        .run(&(rows(members, most), prop::bool::ANY), |(rows, each)| {
            check(&rows, members, if each { "each" } else { "directory" })
        })
        .unwrap();
}

#[test]
fn small_random_files_match_the_model() {
    run_property(6, 14, 40);
}

/// The files have up to 2000 rows, and the model processes them one by one.
#[test]
fn large_random_files_match_the_model() {
    run_property(1500, 2000, 3);
}

/// Tries a chain of 400 renames in order, reversed and shuffled.
#[test]
fn rename_chains_succeed_in_any_row_order() {
    // user1 takes the email of user2, user2 that of user3, and so on. The last member takes a free email.
    let length = 400;
    let mut chain: Vec<Row> = (1..=length)
        .map(|n| Row {
            member: n,
            email: Some(n + 1),
            ..Row::default()
        })
        .collect();
    for _ in 0..2 {
        check(&chain, length, "directory").unwrap();
        chain.reverse();
    }
    fastrand::Rng::with_seed(7).shuffle(&mut chain);
    check(&chain, length, "each").unwrap();
}

/// A row that contradicts another one is in no circle of renames, and must not wait for one that waits for it.
#[test]
fn contradicting_rows_never_hold_each_other_for_ever() {
    let csv = "Email,New Email\nuser7@x.org,user6@x.org\nuser6@x.org,user2@x.org\n\
               user6@x.org,user7@x.org\nuser2@x.org,user11@x.org\n";
    let (api, bench) = (Api::with_users(6), Bench::new());
    bench.update(&api, csv, &[]).exits(1);
    let outcomes = ["not_found", "invalid", "invalid", "updated"];
    assert_eq!(bench.outcomes(), outcomes);
}

/// These rows are invalid before anything is sent for them. The other rows are still processed.
#[test]
fn cycles_and_contradictions_name_all_their_lines() {
    let (api, bench) = (Api::with_users(9), Bench::new());
    let csv = "Email,First Name,New Email\n\
               user1@x.org,,user2@x.org\n\
               user2@x.org,,user3@x.org\n\
               user3@x.org,,user1@x.org\n\
               user4@x.org,,same@x.org\n\
               user5@x.org,,SAME@x.org\n\
               user6@x.org,A,\n\
               user6@x.org,B,\n\
               user7@x.org,C,USER7@x.org\n";
    bench.update(&api, csv, &[]).exits(1);
    assert_eq!(
        bench.outcomes(),
        [
            "invalid", "invalid", "invalid", "invalid", "invalid", "invalid", "invalid", "updated"
        ]
    );
    let messages: Vec<String> = bench
        .results()
        .iter()
        .map(|line| line["Message"].clone())
        .collect();
    assert!(messages[0].contains("lines 2, 3 and 4"), "{}", messages[0]);
    assert!(messages[3].contains("lines 5 and 6"), "{}", messages[3]);
    assert!(messages[5].contains("lines 7 and 8"), "{}", messages[5]);
    assert_eq!(
        api.member("USER7@x.org").first_name,
        "C",
        "a change of case alone is not a cycle"
    );
    let strict = Bench::new();
    strict
        .update(&api, csv, &["--strict"])
        .exits(2)
        .says("line 2:");
}

/// Such rows are for two members if both spellings exist, and contradict each other if only one does.
#[test]
fn emails_differing_in_case_can_be_two_members() {
    let twins = ["ann@x.org", "Ann@x.org"].map(|email| Member {
        email: email.to_owned(),
        ..user(1)
    });
    let [one, two] = twins;
    let api = Api::with([
        Member {
            member_id: "lower".to_owned(),
            ..one
        },
        Member {
            member_id: "upper".to_owned(),
            ..two
        },
        user(2),
    ]);
    for mode in ["directory", "each"] {
        let bench = Bench::new();
        let csv = format!(
            "Email,First Name\nann@x.org,{mode}1\nAnn@x.org,{mode}2\nANN@x.org,C\nuser2@x.org,{mode}D\nUSER2@x.org,E\n"
        );
        bench.update(&api, &csv, &["--lookup", mode]).exits(1);
        assert_eq!(
            bench.outcomes(),
            ["updated", "updated", "invalid", "invalid", "invalid"],
            "{mode}"
        );
        let name = |id: &str| api.sandbox.member(id).unwrap().first_name;
        assert_eq!(
            (name("lower"), name("upper")),
            (format!("{mode}1"), format!("{mode}2"))
        );
    }
}
