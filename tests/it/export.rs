//! Exports, and that an update of an export changes nothing.

use sigma_bulk::sandbox::{Faults, Member};

use crate::harness::{Api, Bench, Ran, lines, user};

/// Members whose values are hard to write into a CSV.
fn odd_members() -> Vec<Member> {
    let names = [
        "=1+1",
        "'quoted",
        "-5",
        "@name",
        "a,b;c\td",
        "two\nlines",
        "say \"x\"",
        " blank ",
        "NULL",
        "#N/A",
        "true",
        "x\u{FFFD}y",
        "Zoë 😀",
        "\u{201c}curly\u{201d}",
        "a\u{7}b",
        "",
    ];
    let members = names.iter().enumerate().map(|(number, name)| Member {
        first_name: (*name).to_owned(),
        last_name: name.chars().rev().collect(),
        is_archived: number % 3 == 0,
        is_inactive: number % 5 == 0,
        user_kind: ["internal", "guest", "embed"][number % 3].to_owned(),
        ..user(number + 1)
    });
    let mut members: Vec<Member> = members.collect();
    members.push(Member {
        email: "Mixed.Case@X.org".to_owned(),
        ..user(101)
    });
    members.push(Member {
        email: "+plus=sign@x.org".to_owned(),
        ..user(102)
    });
    members
}

fn export(bench: &Bench, api: &Api, more: &[&str]) -> Ran {
    let url = api.sandbox.url();
    bench.run(&[&["export", "--base-url", &url], more].concat())
}

/// Whatever a member's values are, an update of the export is valid and sends nothing.
#[test]
fn an_update_of_an_export_changes_nothing() {
    for format in [&[][..], &["--excel"]] {
        let (api, bench) = (Api::with(odd_members()), Bench::new());
        export(&bench, &api, &[&["input.csv"], format].concat()).exits(0);
        let csv = std::fs::read(bench.path("input.csv")).unwrap();
        bench.update(&api, csv, &[]).exits(0);
        let summary = bench.summary();
        assert_eq!(summary["outcomes"]["unchanged"], odd_members().len());
        assert!(api.stats().patches.is_empty());
    }
}

/// A value that no cell can hold is left blank, and is counted.
#[test]
fn values_that_no_cell_holds_are_blank_and_counted() {
    let (api, bench) = (Api::with(odd_members()), Bench::new());
    // In two names each: a tab, U+FFFD, and another control character.
    export(&bench, &api, &["m.csv"])
        .exits(0)
        .says("6 values left blank");
    let exported = lines(&bench.path("m.csv"));
    assert_eq!(exported[11]["First Name"], "");
    assert_eq!(exported[12]["First Name"], "Zoë 😀");
    assert_eq!(exported[0]["Member ID"], "id1");
    assert!(exported[0]["Created At"].starts_with("20"));
}

#[test]
fn an_edited_export_changes_what_was_edited() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    export(&bench, &api, &["m.csv"]).exits(0);
    let csv = bench
        .read("m.csv")
        .replacen("user2@x.org,First", "user2@x.org,Anna", 1);
    bench.update(&api, csv, &[]).exits(0);
    assert_eq!(bench.outcomes(), ["unchanged", "updated", "unchanged"]);
    assert_eq!(api.member("user2@x.org").first_name, "Anna");
}

#[test]
fn filters_choose_members() {
    let mut members = odd_members();
    members[1].member_type = "Creator".to_owned();
    let (api, bench) = (Api::with(members), Bench::new());
    let count = |filter: &[&str]| {
        let ran = export(&bench, &api, filter).exits(0);
        ran.stdout.matches("@x.org,").count() + ran.stdout.matches("@X.org,").count()
    };
    let all = odd_members().len();
    assert_eq!(count(&[]), all);
    assert_eq!(count(&["--type", "creator"]), 1);
    assert_eq!(count(&["--type", "creator", "--type", "VIEWER"]), all);
    assert_eq!(count(&["--archived"]), 6);
    assert_eq!(count(&["--archived=false"]), all - 6);
    assert_eq!(count(&["--inactive"]), 4);
    assert_eq!(count(&["--kind", "Guest"]), 5);
    assert_eq!(count(&["--domain", "X.ORG"]), all);
    assert_eq!(count(&["--domain", "@y.org"]), 0);
    assert_eq!(count(&["--not-updated-since", "1d"]), all);
    assert_eq!(count(&["--not-updated-since", "2001-01-01"]), 0);
    export(&bench, &api, &["--not-updated-since", "soon"])
        .exits(2)
        .says("2026-03-31");
}

#[test]
fn exports_are_private_whole_and_overwrite_nothing() {
    let (api, bench) = (Api::with_users(30), Bench::new());
    bench.write("m.csv", "mine");
    export(&bench, &api, &["m.csv"]).exits(2).says("--force");
    assert_eq!(bench.read("m.csv"), "mine");
    export(&bench, &api, &["m.csv", "--force"]).exits(0);
    assert_eq!(lines(&bench.path("m.csv")).len(), 30);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(bench.path("m.csv"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // A listing that fails leaves nothing behind.
    let api = api.faults(Faults {
        fail_before: 1.0,
        ..Faults::default()
    });
    export(
        &bench,
        &api,
        &["other.csv", "--retries", "0", "--outage-limit", "1s"],
    )
    .exits(3);
    assert!(!bench.path("other.csv").exists());
    let left = std::fs::read_dir(bench.dir.path()).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().contains("tmp")),
        "{names:?}"
    );
}

#[test]
fn templates_need_no_credentials_and_are_inputs() {
    let bench = Bench::new();
    let mut command = bench.command();
    command
        .env_remove("SIGMA_CLIENT_SECRET")
        .args(["export", "--template", "input.csv"]);
    Ran::of(command.output().unwrap(), &bench).exits(0);
    let api = Api::with([Member {
        first_name: "Ana".to_owned(),
        last_name: "García".to_owned(),
        member_type: "Viewer".to_owned(),
        ..Member::new("ana.garcia@example.com")
    }]);
    let csv = bench.read("input.csv");
    bench.update(&api, csv, &[]).exits(0);
    assert_eq!(bench.outcomes(), ["unchanged"]);
}
