//! One test for each outcome: the reported outcome, what was sent, and the member's values afterwards.

use std::time::Duration;

use sigma_bulk::sandbox::{Endpoint, Faults, LateAnswer, Member};

use crate::harness::{Api, Bench, Ran, user};

#[test]
fn updated_when_the_answer_has_the_new_values() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,First Name,Last Name,New Email,Member Type,isArchived,isInactive,userKind\n\
               user1@x.org,A,B,new@x.org,creator,TRUE,true,guest\n";
    bench.update(&api, csv, &[]).exits(0);
    let member = api.member("new@x.org");
    assert_eq!(
        (
            member.member_id.as_str(),
            member.first_name.as_str(),
            member.last_name.as_str()
        ),
        ("id1", "A", "B")
    );
    assert_eq!(
        (member.member_type.as_str(), member.user_kind.as_str()),
        ("Creator", "guest")
    );
    assert!(member.is_archived && member.is_inactive);
    let line = &bench.results()[0];
    assert_eq!(
        (
            line["Outcome"].as_str(),
            line["Status"].as_str(),
            line["Attempts"].as_str()
        ),
        ("updated", "200", "1")
    );
    assert_eq!(line["Member ID"], "id1");
    assert!(
        line["Changes"].contains("First Name: First → A"),
        "{}",
        line["Changes"]
    );
}

#[test]
fn only_differing_fields_are_sent() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv =
        "Email,First Name,Last Name,Member Type,isArchived\nuser1@x.org,First,New,VIEWER,false\n";
    bench.update(&api, csv, &[]).exits(0);
    assert_eq!(
        api.stats().patches[0].body,
        serde_json::json!({"lastName": "New"})
    );
}

/// The new owner may be given by email or by id. The request always holds the id.
#[test]
fn archive_options_are_sent_with_the_archive_flag() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email,isArchived,newOwner,archiveDocuments,archiveScheduledExports\n\
               user1@x.org,true,user2@x.org,,\nuser3@x.org,true,id2,false,true\n";
    bench.update(&api, csv, &["--concurrency", "1"]).exits(0);
    let bodies: Vec<_> = api
        .stats()
        .patches
        .into_iter()
        .map(|patch| patch.body)
        .collect();
    assert_eq!(
        bodies[0],
        serde_json::json!({"isArchived": true, "newOwnerId": "id2"})
    );
    assert_eq!(
        bodies[1],
        serde_json::json!({"isArchived": true, "newOwnerId": "id2", "archiveDocuments": false, "archiveScheduledExports": true})
    );
}

#[test]
fn unchanged_rows_are_sent_only_on_request() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv = "Email,First Name,Member Type,isArchived\nuser1@x.org,First,viewer,FALSE\n";
    bench.update(&api, csv, &[]).exits(0);
    assert_eq!(bench.outcomes(), ["unchanged"]);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);

    let bench = Bench::new();
    bench.update(&api, csv, &["--send-unchanged"]).exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 1);
}

#[test]
fn empty_rows_are_not_looked_up() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(
            &api,
            "Email,First Name\nuser1@x.org,\nnobody@x.org,  \n",
            &[],
        )
        .exits(0);
    assert_eq!(bench.outcomes(), ["empty", "empty"]);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
}

#[test]
fn invalid_rows_name_their_line_and_others_continue() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv =
        "Email,First Name,isArchived\nuser1@x.org,A,yes\n,B,\nuser2@x.org,C,\nuser2@x.org,C,,\n";
    bench.update(&api, csv, &[]).exits(1).says("line 2");
    assert_eq!(
        bench.outcomes(),
        ["invalid", "invalid", "updated", "invalid"]
    );
    let lines: Vec<String> = bench
        .results()
        .iter()
        .map(|line| line["Line"].clone())
        .collect();
    assert_eq!(lines, ["2", "3", "4", "5"]);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// Invalid if the API lets the tool read the account types. Otherwise the update fails with a hint.
#[test]
fn unknown_account_type_is_invalid_or_failed() {
    let csv = "Email,Member Type\nuser1@x.org,Wizard\n";
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.update(&api, csv, &[]).exits(1);
    assert_eq!(bench.outcomes(), ["invalid"]);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);

    let api = Api::start(sigma_bulk::sandbox::Config {
        population: sigma_bulk::sandbox::Population::Members(vec![user(1)]),
        account_types_forbidden: true,
        ..Default::default()
    });
    let bench = Bench::new();
    bench.update(&api, csv, &[]).exits(1);
    assert_eq!(bench.outcomes(), ["failed"]);
    let message = &bench.results()[0]["Message"];
    assert!(
        message.contains("Member type name is not found"),
        "{message}"
    );
    assert!(
        message.contains("not in use in this organization"),
        "{message}"
    );
}

#[test]
fn not_found_when_nobody_has_the_email() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(&api, "Email,First Name\nnobody@x.org,A\n", &[])
        .exits(1);
    assert_eq!(bench.outcomes(), ["not_found"]);
}

/// A member outside the file keeps the new email. Neither that row nor one that waits for it can be done, and the dry
/// run and the run say the same.
#[test]
fn invalid_when_somebody_keeps_the_new_email() {
    for lookup in ["directory", "each"] {
        for flags in [&["--dry-run"][..], &[]] {
            let (api, bench) = (Api::with_users(4), Bench::new());
            let csv = "Email,New Email\nuser1@x.org,user2@x.org\nuser2@x.org,USER3@x.org\nuser4@x.org,d@x.org\n";
            let mut words = vec!["--lookup", lookup];
            words.extend(flags);
            bench.update(&api, csv, &words).exits(1);
            let last = ["updated", "would_update"][usize::from(!flags.is_empty())];
            assert_eq!(bench.outcomes(), ["invalid", "invalid", last]);
            for line in &bench.results()[..2] {
                assert!(
                    line["Message"].contains("belongs to another member"),
                    "{}",
                    line["Message"]
                );
            }
        }
    }
}

/// Runs an update, and does something else while the API answers the first PATCH. The API must be slow.
fn update_meanwhile(
    api: &Api,
    bench: &Bench,
    csv: &str,
    flags: &[&str],
    meanwhile: impl FnOnce(),
) -> Ran {
    bench.write("input.csv", csv);
    let url = api.sandbox.url();
    let child = bench.start(&bench.update_words(&url, flags));
    api.wait_until(|stats| stats.requests_to(Endpoint::UpdateMember) > 0);
    meanwhile();
    Ran::of(child.wait_with_output().unwrap(), bench)
}

/// Somebody takes the email between the look-up and the update.
#[test]
fn failed_with_a_hint_when_the_email_was_taken_meanwhile() {
    let faults = Faults {
        latency: Duration::from_secs(1),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    let csv = "Email,New Email\nuser1@x.org,new@x.org\n";
    let ran = update_meanwhile(&api, &bench, csv, &[], || {
        api.sandbox
            .edit("id2", |member| member.email = "new@x.org".to_owned())
            .unwrap();
    });
    ran.exits(1);
    let line = &bench.results()[0];
    assert_eq!(
        (line["Outcome"].as_str(), line["Status"].as_str()),
        ("failed", "409")
    );
    assert!(
        line["Message"].contains("Duplicate record"),
        "{}",
        line["Message"]
    );
    assert!(
        line["Message"].contains("belongs to another member"),
        "{}",
        line["Message"]
    );
}

#[test]
fn failed_when_attempts_run_out_without_a_change() {
    let faults = Faults {
        fail_before: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(1);
    let line = &bench.results()[0];
    assert_eq!(
        (line["Outcome"].as_str(), line["Attempts"].as_str()),
        ("failed", "2")
    );
    assert_eq!(bench.summary()["requests"]["retries"], 1);
}

/// The update was applied but its answer was lost, and no attempts were left.
#[test]
fn updated_when_a_read_confirms_the_values() {
    let faults = Faults {
        close_after: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    bench
        .update(&api, "Email,First Name\nuser1@x.org,A\n", &[])
        .exits(0);
    let line = &bench.results()[0];
    assert_eq!(line["Outcome"], "updated");
    assert!(
        line["Message"].contains("confirmed by reading"),
        "{}",
        line["Message"]
    );
}

#[test]
fn unknown_when_the_update_cannot_be_confirmed() {
    // The connection closes before the update is answered, and then the member cannot be read.
    let faults = Faults {
        close_before: 1.0,
        only: Some(vec![Endpoint::UpdateMember, Endpoint::GetMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    bench
        .update(
            &api,
            "Email,First Name\nuser1@x.org,A\n",
            &["--retries", "0"],
        )
        .exits(1);
    assert_eq!(bench.outcomes(), ["unknown"]);
}

#[test]
fn not_attempted_when_the_run_stopped_before_the_row() {
    let faults = Faults {
        forced: Some(400),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(2).faults(faults), Bench::new());
    let csv = "Email,New Email\nuser1@x.org,a@x.org\nuser2@x.org,b@x.org\n";
    bench
        .update(&api, csv, &["--abort-on-update-fail", "--concurrency", "1"])
        .exits(4);
    assert_eq!(bench.outcomes(), ["failed", "not_attempted"]);
    assert_eq!(bench.summary()["stop"], "failure_limit");
}

/// The API renames the member and fails before it sets the other value. If the member could be read after that, undo.csv
/// names it by the new email; if not, the row is left out, because either email may belong to somebody else.
#[test]
fn undo_names_a_member_whose_rename_was_half_done() {
    for is_readable in [true, false] {
        let faults = Faults {
            fail_before: 1.0,
            latency: Duration::from_secs(1),
            only: Some(vec![Endpoint::UpdateMember]),
            ..Faults::default()
        };
        let (api, bench) = (Api::with_users(1).faults(faults.clone()), Bench::new());
        let csv = "Email,First Name,New Email\nuser1@x.org,A,new@x.org\n";
        let ran = update_meanwhile(&api, &bench, csv, &["--retries", "0"], || {
            api.sandbox
                .edit("id1", |member| member.email = "new@x.org".to_owned())
                .unwrap();
            if !is_readable {
                api.sandbox.set_faults(Faults {
                    fail_before: 1.0,
                    only: Some(vec![Endpoint::UpdateMember, Endpoint::GetMember]),
                    ..faults
                });
            }
        });
        let ran = ran.exits(1);
        let undo = bench.read("run/undo.csv");
        api.sandbox.set_faults(Faults::default());
        if is_readable {
            assert_eq!(bench.outcomes(), ["failed"]);
            assert_eq!(
                undo,
                "Email,First Name,New Email\nnew@x.org,First,user1@x.org\n"
            );
            let again = Bench::new();
            again.update(&api, undo, &[]).exits(0);
        } else {
            assert_eq!(bench.outcomes(), ["unknown"]);
            assert_eq!(undo, "Email,First Name,New Email\n");
            assert!(
                ran.stdout.contains("1 row missing from undo.csv"),
                "{}",
                ran.stdout
            );
            // The command knows the member by its id.
            bench.undo(&[]).exits(0);
        }
        assert_eq!(api.state(), Api::with_users(1).state());
    }
}

/// The API applies only some of the values and answers with an error, or refuses the rest.
#[test]
fn partial_update_is_failed_and_can_be_undone() {
    for status in [503, 409] {
        partial_update(status);
    }
}

fn partial_update(status: u16) {
    let faults = Faults {
        fail_before: 1.0,
        fail_status: status,
        latency: Duration::from_secs(1),
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
    let csv = "Email,First Name,Last Name\nuser1@x.org,A,B\n";
    // The API applies half of the update and then fails.
    let ran = update_meanwhile(&api, &bench, csv, &["--retries", "0"], || {
        api.sandbox
            .edit("id1", |member| "A".clone_into(&mut member.first_name))
            .unwrap();
    });
    ran.exits(1);
    let line = &bench.results()[0];
    assert_eq!(line["Outcome"], "failed");
    assert!(
        line["Message"].contains("only a part of the new values"),
        "{line:?}"
    );
    assert_eq!(
        bench.read("run/undo.csv"),
        "Email,First Name,Last Name\nuser1@x.org,First,Last\n"
    );
    api.sandbox.set_faults(Faults::default());
    bench.undo(&[]).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

/// The answer, or what is read after it, shows the old values for a while.
#[test]
fn late_updates_are_waited_for() {
    let updates = |faults: Faults| Faults {
        late_by: Duration::from_secs(2),
        only: Some(vec![Endpoint::UpdateMember]),
        ..faults
    };
    let late = |late_answer| {
        updates(Faults {
            late: 1.0,
            late_answer,
            ..Faults::default()
        })
    };
    let lagging = Faults {
        read_lag: Duration::from_secs(2),
        garbage: 1.0,
        only: Some(vec![Endpoint::UpdateMember]),
        ..Faults::default()
    };
    let slow_readers = Faults {
        read_lag: Duration::from_secs(2),
        ..Faults::default()
    };
    for (faults, flags) in [
        (late(LateAnswer::OldMember(200)), &[][..]),
        (late(LateAnswer::OldMember(202)), &["--canary", "1"]),
        (late(LateAnswer::Success), &[]),
        (lagging, &[]),
        (slow_readers, &["--canary", "1"]),
    ] {
        let name = format!("{faults:?}");
        let (api, bench) = (Api::with_users(3).faults(faults), Bench::new());
        let csv = "Email,First Name,Last Name\nuser1@x.org,A,B\nuser2@x.org,A,\nuser3@x.org,A,\n";
        let ran = bench.update(&api, csv, flags);
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stdout);
        assert_eq!(bench.outcomes(), ["updated"; 3], "{name}");
    }
}

/// A gateway gives up, and its server applies the update later. The row has failed, and the undo looks at the member.
#[test]
fn update_that_comes_after_a_gateway_error_can_be_undone() {
    for status in [504, 524] {
        let faults = Faults {
            late: 1.0,
            late_by: Duration::from_secs(2),
            late_answer: LateAnswer::Error(status),
            only: Some(vec![Endpoint::UpdateMember]),
            ..Faults::default()
        };
        let (api, bench) = (Api::with_users(1).faults(faults), Bench::new());
        let csv = "Email,First Name\nuser1@x.org,A\n";
        bench.update(&api, csv, &["--retries", "0"]).exits(1);
        assert_eq!(bench.outcomes(), ["failed"]);
        assert_eq!(
            bench.read("run/undo.csv"),
            "Email,First Name\nuser1@x.org,First\n"
        );
        // Until then, everybody sees the old value.
        std::thread::sleep(Duration::from_secs(2));
        api.sandbox.set_faults(Faults::default());
        bench.undo(&[]).exits(0);
        assert_eq!(api.member("user1@x.org").first_name, "First");
        let undone = crate::harness::lines(&bench.path("undo/results.csv"));
        assert_eq!(undone[0]["Outcome"], "updated");
    }
}

/// A row may name an account type that is no longer in use if the member already has it.
#[test]
fn member_may_keep_a_retired_account_type() {
    let old = Member {
        member_type: "Legacy".to_owned(),
        ..user(1)
    };
    let (api, bench) = (Api::with([old, user(2)]), Bench::new());
    let csv = "Email,First Name,Member Type\nuser1@x.org,A,legacy\nuser2@x.org,B,legacy\n";
    bench
        .update(&api, csv, &["--strict"])
        .exits(2)
        .says("line 3");
    bench.update(&api, csv, &[]).exits(1);
    assert_eq!(bench.outcomes(), ["updated", "invalid"]);
    assert_eq!(api.member("user1@x.org").first_name, "A");
}
