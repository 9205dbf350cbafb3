//! Which member a row targets: the same in either lookup mode, whatever form the API's listing has.

use sigma_bulk::sandbox::{Config, Endpoint, ListingQuirks, Member, Population};

use crate::harness::{Api, Bench, many, user};

/// An email always names the member that had it when the run began, whatever other rows rename.
#[test]
fn rows_look_up_members_as_they_were_at_the_start() {
    // user1 is renamed by the first row. The later rows, and newOwner in the last one, use its old email.
    let csv = "Email,New Email,First Name,isArchived,newOwner\n\
               user1@x.org,moved@x.org,,,\n\
               moved@x.org,,X,,\n\
               user1@x.org,,Y,,\n\
               user2@x.org,,,true,user1@x.org\n";
    for mode in ["directory", "each", "auto"] {
        let (api, bench) = (Api::with_users(3), Bench::new());
        bench
            .update(&api, csv, &["--lookup", mode, "--concurrency", "1"])
            .exits(1);
        assert_eq!(
            bench.outcomes(),
            ["updated", "not_found", "updated", "updated"],
            "{mode}"
        );
        assert_eq!(api.member("moved@x.org").first_name, "Y");
        let owner = api
            .stats()
            .patches
            .iter()
            .find_map(|patch| patch.body.get("newOwnerId").cloned());
        assert_eq!(owner, Some("id1".into()), "{mode}");
    }
}

#[test]
fn emails_match_regardless_of_case() {
    for mode in ["directory", "each"] {
        let (api, bench) = (
            Api::with([Member {
                email: "Ann.Lee@X.org".to_owned(),
                ..user(1)
            }]),
            Bench::new(),
        );
        bench
            .update(
                &api,
                "Email,First Name\nANN.lee@x.org,A\n",
                &["--lookup", mode],
            )
            .exits(0);
        assert_eq!(api.member("Ann.Lee@X.org").first_name, "A", "{mode}");
    }
}

/// An exact match wins. Without one, two members whose emails differ only in case are ambiguous.
#[test]
fn ambiguous_email_makes_the_row_invalid() {
    let twin = |id: &str, email: &str| Member {
        member_id: id.to_owned(),
        email: email.to_owned(),
        ..user(1)
    };
    for mode in ["directory", "each"] {
        let (api, bench) = (
            Api::with([twin("a", "Ann@x.org"), twin("b", "ann@X.org")]),
            Bench::new(),
        );
        bench
            .update(
                &api,
                "Email,First Name\nANN@x.org,A\nAnn@x.org,B\n",
                &["--lookup", mode],
            )
            .exits(1);
        assert_eq!(bench.outcomes(), ["invalid", "updated"], "{mode}");
    }
}

#[test]
fn search_results_are_read_to_the_last_page() {
    let decoys = (1..=120).map(|n| Member {
        email: format!("q{n}n@x.org"),
        ..user(n)
    });
    let meant = Member {
        email: "N@X.org".to_owned(),
        ..user(121)
    };
    let api = Api::start(Config {
        population: Population::Members(decoys.chain([meant]).collect()),
        page_limit: 50,
        ..Config::default()
    });
    let bench = Bench::new();
    bench
        .update(&api, "Email,First Name\nn@x.org,A\n", &["--lookup", "each"])
        .exits(0);
    assert_eq!(api.member("N@X.org").first_name, "A");
}

#[test]
fn archived_and_inactive_members_are_found() {
    for mode in ["directory", "each"] {
        let api = Api::with([
            Member {
                is_archived: true,
                ..user(1)
            },
            Member {
                is_inactive: true,
                ..user(2)
            },
        ]);
        let bench = Bench::new();
        let csv = "Email,isArchived,isInactive\nuser1@x.org,false,\nuser2@x.org,,false\n";
        bench.update(&api, csv, &["--lookup", mode]).exits(0);
        assert!(!api.member("user1@x.org").is_archived && !api.member("user2@x.org").is_inactive);
    }
}

#[test]
fn all_listing_formats_are_read() {
    let members = || Population::Members((1..=120).map(user).collect());
    let configs = [
        (
            "smaller pages",
            Config {
                page_limit: 50,
                ..Config::default()
            },
        ),
        (
            "no v2.1",
            Config {
                v2_1: false,
                ..Config::default()
            },
        ),
        (
            "no total",
            Config {
                total: false,
                ..Config::default()
            },
        ),
        (
            "a bare array",
            Config {
                v2_1: false,
                page_limit: 10,
                bare_array: true,
                ..Config::default()
            },
        ),
        (
            "absent flags",
            Config {
                omit_false: true,
                ..Config::default()
            },
        ),
    ];
    for (name, config) in configs {
        let api = Api::start(Config {
            population: members(),
            ..config
        });
        let bench = Bench::new();
        let csv =
            "Email,First Name,isArchived\nuser1@x.org,A,false\nuser60@x.org,B,\nuser120@x.org,C,\n";
        let ran = bench.update(&api, csv, &["--lookup", "directory"]);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
    }
}

#[test]
fn auto_picks_the_mode_with_fewer_requests() {
    let population = || Population::Members((1..=3000).map(user).collect());
    let run = |total: bool, rows: usize| {
        let api = Api::start(Config {
            population: population(),
            page_limit: 100,
            total,
            ..Config::default()
        });
        let bench = Bench::new();
        let rows: String = (1..=rows)
            .map(|n| format!("user{},A\n", format_args!("{}@x.org", n * 7)))
            .collect();
        bench
            .update(
                &api,
                format!("Email,First Name\n{rows}"),
                &["--lookup", "auto"],
            )
            .exits(0);
        api.stats().requests_to(Endpoint::ListMembers)
    };
    // The listing has 30 pages of 100. It competes with one lookup per row plus the page that gave the total.
    assert_eq!(run(true, 1), 1, "one lookup never costs more than a page");
    let few = run(true, 5);
    assert!(few <= 8, "{few} requests for 5 members");
    // The tool may try up to four page sizes before the API accepts one.
    let many = run(true, 400);
    assert!((30..=33).contains(&many), "{many} requests for 400 members");
    let without = run(false, 400);
    assert!(
        (30..=33).contains(&without),
        "{without} requests for 400 members without a total"
    );
}

#[test]
fn a_plan_finds_members_by_their_ids() {
    for mode in ["directory", "each"] {
        let (api, bench) = (Api::with_users(5), Bench::new());
        let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org,B\n";
        bench
            .update(&api, csv, &["--dry-run", "--save-plan", "plan.jsonl"])
            .exits(0);
        bench
            .run(&[
                "apply",
                "plan.jsonl",
                "--rate",
                "0",
                "--lookup",
                mode,
                "--run-dir",
                "applied",
            ])
            .exits(0);
        assert_eq!(api.member("user2@x.org").first_name, "B", "{mode}");
    }
}

/// When the API has no search, all rows whose email is spelled differently share one listing.
#[test]
fn without_search_one_listing_finds_other_spellings() {
    let mixed = |n: usize| Member {
        email: format!("User{n}@X.org"),
        ..user(n)
    };
    let api = Api::start(Config {
        population: Population::Members((1..=30).map(mixed).chain([user(31)]).collect()),
        search: false,
        // The listing proves that it is complete by the user of the credentials.
        own_email: "user31@x.org".to_owned(),
        ..Config::default()
    });
    let bench = Bench::new();
    // The second row matches no member: it must not see the first row's rename, even in a later listing.
    let csv = "Email,First Name,New Email\nuser31@x.org,A,new@x.org\nnew@x.org,B,\n\
               user1@x.org,C,\nUSER2@x.org,D,\nnobody@x.org,E,\n";
    let more = ["--lookup", "each", "--concurrency", "1"];
    bench.update(&api, csv, &more).exits(1);
    assert_eq!(
        bench.outcomes(),
        ["updated", "not_found", "updated", "updated", "not_found"]
    );
    assert_eq!(api.member("User1@X.org").first_name, "C");
    let listings = api.stats().requests_to(Endpoint::ListMembers);
    assert!(listings < 15, "{listings} listing requests");
}

/// A new email costs one request and never causes a listing. That the API has no search is found once, with all page sizes.
#[test]
fn free_new_emails_are_looked_up_with_one_request_each() {
    for search in [true, false] {
        let api = Api::start(Config {
            population: Population::Members((1..=30).map(user).collect()),
            search,
            ..Config::default()
        });
        let bench = Bench::new();
        let rows: String = (1..=5)
            .map(|n| format!("user{n}@x.org,new{n}@x.org\n"))
            .collect();
        let csv = format!("Email,New Email\n{rows}");
        let flags = ["--lookup", "each", "--concurrency", "1"];
        bench.update(&api, csv, &flags).exits(0);
        let requests = api.stats().requests_to(Endpoint::ListMembers);
        assert_eq!(requests, if search { 10 } else { 15 });
    }
}

/// A listing that misses members, by whatever it shows or hides, makes nobody `not_found` who exists.
#[test]
fn member_missing_from_a_listing_is_asked_for_by_email() {
    let all = ListingQuirks::default;
    let quirks = [
        ListingQuirks {
            hides_cursor: true,
            ..all()
        },
        ListingQuirks {
            hides_cursor: true,
            hides_has_more: true,
            ..all()
        },
        ListingQuirks {
            is_bare: true,
            ..all()
        },
        ListingQuirks {
            is_empty: true,
            ..all()
        },
        ListingQuirks {
            misses: vec!["id7".to_owned(), "id119".to_owned()],
            ..all()
        },
    ];
    let csv = many(120) + "nobody@x.org,New\n";
    for quirks in quirks {
        for (v2_1, total) in [(true, true), (true, false), (false, false)] {
            for flags in [&[][..], &["--dry-run"]] {
                let name = format!("{quirks:?} {v2_1} {total} {flags:?}");
                let api = Api::start(Config {
                    population: Population::Members((1..=120).map(user).collect()),
                    own_email: "user119@x.org".to_owned(),
                    listing: quirks.clone(),
                    page_limit: 50,
                    v2_1,
                    total,
                    ..Config::default()
                });
                let bench = Bench::new();
                let ran = bench.update(&api, &csv, &[&["--lookup", "directory"], flags].concat());
                assert_eq!(ran.code, Some(1), "{name}: {}", ran.stderr);
                let counts = bench.check_files();
                assert_eq!(counts["not_found"], 1, "{name}: {counts:?}");
            }
        }
    }
}

/// The cursor stands under another name, as other endpoints and gateways have it.
#[test]
fn cursors_are_followed_under_every_known_name() {
    for name in [
        "nextPage",
        "nextPageToken",
        "next_page_token",
        "nextCursor",
        "cursor",
        "next",
    ] {
        let api = Api::start(Config {
            population: Population::Members((1..=120).map(user).collect()),
            own_email: "user119@x.org".to_owned(),
            listing: ListingQuirks {
                cursor_name: Some(name.to_owned()),
                ..ListingQuirks::default()
            },
            page_limit: 50,
            ..Config::default()
        });
        let bench = Bench::new();
        bench
            .update(&api, many(120), &["--lookup", "directory"])
            .exits(0);
        let listings = api.stats().requests_to(Endpoint::ListMembers);
        // Five requests find the page size and three read the pages.
        assert!(listings <= 8, "{name}: {listings}");
    }
}

/// Look-ups confirm that the first thousand members do not exist; the listing is believed about the others.
#[test]
fn unproven_listing_is_believed_after_enough_look_ups() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let rows: String = (1..=1500).map(|n| format!("nobody{n}@x.org,A\n")).collect();
    let csv = format!("Email,First Name\n{rows}");
    let ran = bench
        .update(&api, csv, &["--lookup", "directory", "--dry-run"])
        .exits(1)
        .says("is this the right organization?");
    assert!(
        ran.stdout
            .contains("Nobody in the file exists in organization"),
        "{}",
        ran.stdout
    );
    assert_eq!(bench.check_files()["not_found"], 1500);
    let listings = api.stats().requests_to(Endpoint::ListMembers);
    assert!((1000..3000).contains(&listings), "{listings}");
}

/// A list of account types that may have been cut makes no row invalid.
#[test]
fn incomplete_account_types_check_nothing() {
    let mut account_types: Vec<String> = (1..=60).map(|n| format!("Type {n:02}")).collect();
    account_types.push("Viewer".to_owned());
    let api = Api::start(Config {
        population: Population::Members(vec![user(1)]),
        account_types,
        listing: ListingQuirks {
            hides_type_cursor: true,
            ..ListingQuirks::default()
        },
        ..Config::default()
    });
    let bench = Bench::new();
    let csv = "Email,Member Type\nuser1@x.org,Type 60\n";
    bench.update(&api, csv, &[]).exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
}
