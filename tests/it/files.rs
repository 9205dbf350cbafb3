//! Files as people make them: what spreadsheets, exports and mail programs leave in a CSV. Each table has the damaged
//! values of a kind, and values that look like them and are right.

use sigma_bulk::sandbox::{Endpoint, Member};

use crate::harness::{Api, Bench, Ran, user};

/// Runs a CSV against three members. Returns the outcome and the message of each row.
fn rows(api: &Api, csv: impl AsRef<[u8]>, flags: &[&str]) -> Vec<(String, String)> {
    let bench = Bench::new();
    bench.update(api, csv, flags);
    bench
        .results()
        .into_iter()
        .map(|mut line| {
            (
                line.remove("Outcome").unwrap(),
                line.remove("Message").unwrap(),
            )
        })
        .collect()
}

#[track_caller]
fn assert_row((outcome, message): &(String, String), expected: &str, says: &str, of: &str) {
    assert_eq!(outcome, expected, "{of:?}: {message}");
    assert!(message.contains(says), "{of:?}: {message}");
}

/// Cells that hold no plain address, and the address that they seem to hold. `Email` and `New Email` agree on all.
#[test]
fn no_cell_but_a_plain_address_is_taken_for_one() {
    for (cell, suggestion) in [
        ("mailto:n@x.org", "did you mean n@x.org?"),
        ("<n@x.org>", "did you mean n@x.org?"),
        ("Ann Lee <n@x.org>", "did you mean n@x.org?"),
        ("\"Lee, Ann\" <n@x.org>", "did you mean n@x.org?"),
        ("n@x.org;", "did you mean n@x.org?"),
        ("n@x.org.", "did you mean n@x.org?"),
        ("(n@x.org)", "did you mean n@x.org?"),
        ("=\"n@x.org\"", "did you mean n@x.org?"),
        ("'n@x.org", "did you mean n@x.org?"),
        ("n%40x.org", "did you mean n@x.org?"),
        ("n@@x.org", "not an email address"),
        ("n@x..org", "not an email address"),
        ("n@x.org m@x.org", "not an email address"),
        ("n@x.org,m@x.org", "not an email address"),
        ("n@", "not an email address"),
        ("@x.org", "not an email address"),
        ("n x@x.org", "not an email address"),
        ("Total", "not an email address"),
        ("#N/A", "not an email address"),
        ("n\u{200B}@x.org", "U+200B"),
        ("n@x.org\u{200E}", "U+200E"),
        ("n@x\u{AD}.org", "U+00AD"),
        ("\u{FEFF}n@x.org", "U+FEFF"),
        ("\u{202A}n@x.org", "U+202A"),
        ("n@x\u{2011}y.org", "U+2011"),
        ("n\u{A0}n@x.org", "U+00A0"),
    ] {
        let api = Api::with_users(1);
        let quoted = format!("\"{}\"", cell.replace('"', "\"\""));
        let row = rows(
            &api,
            format!("Email,New Email\nuser1@x.org,{quoted}\n"),
            &[],
        );
        assert_row(&row[0], "invalid", suggestion, cell);
        let row = rows(&api, format!("Email,First Name\n{quoted},A\n"), &[]);
        assert_row(&row[0], "invalid", suggestion, cell);
        assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 0);
    }
    for address in [
        "o'neil@x.org",
        "'t.hart@x.org".trim_start_matches('\''),
        "a+b@x.org",
        "a%2Bb@x.org",
        "a&b=c@x.org",
        "müller@x.org",
        "n@münchen.example",
        "李@x.org",
        "A.B-C_d@sub.x-y.org",
        "1@x.org",
    ] {
        let api = Api::with_users(1);
        let row = rows(
            &api,
            format!("Email,New Email\nuser1@x.org,{address}\n"),
            &[],
        );
        assert_row(&row[0], "updated", "", address);
        assert_eq!(api.member(address).member_id, "id1");
        let row = rows(&api, format!("Email,First Name\n{address},A\n"), &[]);
        assert_row(&row[0], "updated", "", address);
    }
}

/// A new owner is one active member, who stays active, and not the member itself.
#[test]
fn new_owner_must_be_one_member_who_stays_active() {
    let archived = Member {
        is_archived: true,
        ..user(3)
    };
    let inactive = Member {
        is_inactive: true,
        ..user(4)
    };
    let csv = |owner: &str| {
        format!("Email,isArchived,newOwner\nuser1@x.org,true,{owner}\nuser5@x.org,true,\n")
    };
    for lookup in ["directory", "each"] {
        for (owner, says) in [
            ("Bob Birch", "no member has the id"),
            ("id99", "no member has the id"),
            ("nobody@x.org", "no member has the email"),
            ("user2@x.org;", "did you mean user2@x.org?"),
            ("user1@x.org", "the member itself"),
            ("id1", "the member itself"),
            ("user3@x.org", "is archived"),
            ("id3", "is archived"),
            ("user4@x.org", "is archived"),
            ("user5@x.org", "archived"),
            ("id5", "archived"),
        ] {
            let api = Api::with([
                user(1),
                user(2),
                archived.clone(),
                inactive.clone(),
                user(5),
            ]);
            for flags in [
                &["--lookup", lookup, "--dry-run"][..],
                &["--lookup", lookup],
            ] {
                let row = rows(&api, csv(owner), flags);
                assert_row(&row[0], "invalid", says, owner);
            }
            assert!(!api.member("user1@x.org").is_archived);
        }
        for owner in ["user2@x.org", "USER2@x.org", "id2"] {
            let api = Api::with([user(1), user(2), user(5)]);
            let row = rows(&api, csv(owner), &["--lookup", lookup]);
            assert_row(&row[0], "updated", "", owner);
        }
    }
    let csv = "Email,isArchived,newOwner,archiveDocuments\nuser1@x.org,true,user2@x.org,true\n";
    let row = rows(&Api::with_users(2), csv, &[]);
    assert_row(&row[0], "invalid", "exclude each other", "both");
}

/// Values that only damage leaves are not sent, values that seem damaged are sent with a warning, and others without.
#[test]
fn damaged_values_are_refused_or_announced() {
    let run = |cell: &str, flags: &[&str]| {
        let (api, bench) = (Api::with_users(1), Bench::new());
        let csv = format!(
            "Email,First Name\nuser1@x.org,\"{}\"\n",
            cell.replace('"', "\"\"")
        );
        (bench.update(&api, csv, flags), api)
    };
    for cell in [
        "Mar\u{FFFD}a",
        "A\u{1B}[1m",
        "A\u{7}",
        "A\tB",
        "A\u{7F}",
        "A\u{9B}B",
    ] {
        let (ran, api) = run(cell, &[]);
        ran.exits(1).says("U+");
        assert_eq!(api.member("user1@x.org").first_name, "First", "{cell:?}");
        run(cell, &["--strict"]).0.exits(2);
    }
    for (cell, says) in [
        ("MarÃ\u{AD}a", "another encoding"),
        ("ZoÃ«", "another encoding"),
        ("Zo√´", "another encoding"),
        ("#N/A", "error of a spreadsheet"),
        ("#REF!", "error of a spreadsheet"),
        ("#BEZUG!", "error of a spreadsheet"),
        ("Loading...", "error of a spreadsheet"),
        ("####", "error of a spreadsheet"),
        ("Err:502", "error of a spreadsheet"),
        ("NULL", "missing value"),
        ("“Zed”", "quotes around"),
        ("'Zed'", "quotes around"),
        ("\"Zed\"", "quotes around"),
        ("z@x.org", "an email address"),
        ("Zo\u{200B}e", "can't be seen"),
        ("Zed\u{A0}Lee", "can't be seen"),
    ] {
        let (ran, _) = run(cell, &["--dry-run"]);
        let ran = ran.exits(0);
        assert!(ran.stdout.contains(says), "{cell:?}: {}", ran.stdout);
        assert!(ran.stdout.contains("line 2"), "{cell:?}: {}", ran.stdout);
        let (ran, api) = run(cell, &[]);
        ran.exits(0).says(says);
        assert_eq!(api.member("user1@x.org").first_name, cell);
        run(cell, &["--strict"]).0.exits(2).says(says);
    }
    let (api, bench) = (Api::with_users(1), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,NULL\nTotal,\n";
    let ran = bench.update(&api, csv, &["--strict"]).exits(2);
    ran.says("1 row is invalid, values look damaged")
        .says("Total");
    for cell in [
        "Null",
        "None",
        "NA",
        "TRUE",
        "1-Sep",
        "O’Neil",
        "O'Neil",
        "d’Éon",
        "👩\u{200D}🚀",
        "می\u{200C}خواهم",
        "Лі",
        "Ãna",
        "#1",
        "X",
        "山田",
        "de la Cruz",
        "two\nlines",
        "Åse",
        "N/A-ish",
    ] {
        let (ran, api) = run(cell, &["--strict"]);
        let ran = ran.exits(0);
        assert!(!ran.stderr.contains("warning"), "{cell:?}: {}", ran.stderr);
        assert_eq!(api.member("user1@x.org").first_name, cell);
    }
}

/// A program that can't read the file's encoding must not bring its reading back as the new name.
#[test]
fn present_value_in_a_wrong_encoding_is_invalid() {
    for (present, cell) in [
        ("Zoë", "ZoÃ«"),
        ("Zoë", "Zo√´"),
        ("Zoë", "Zo?"),
        ("Zoë", "Zo??"),
        ("O’Neil", "Oâ€™Neil"),
        ("Łukasz", "Åukasz"),
        ("Zoà", "ZoÃ"),
        ("Мария", "РњР°СЂРёСЏ"),
        ("山田", "??"),
    ] {
        let api = Api::with([Member {
            last_name: present.into(),
            ..user(1)
        }]);
        let row = rows(&api, format!("Email,Last Name\nuser1@x.org,{cell}\n"), &[]);
        assert_row(&row[0], "invalid", "wrong encoding", cell);
        // The way back repairs the value.
        let api = Api::with([Member {
            last_name: cell.into(),
            ..user(1)
        }]);
        let row = rows(
            &api,
            format!("Email,Last Name\nuser1@x.org,{present}\n"),
            &[],
        );
        assert_row(&row[0], "updated", "", present);
    }
}

#[test]
fn blank_rows_and_nameless_columns_do_not_count() {
    for csv in [
        "Email,First Name\n,\n , \nuser1@x.org,A\n,,,\n\u{A0},\n\n\"\",\"\"\n",
        "Email,First Name,isArchived\n,,FALSE\nuser1@x.org,A,\n,,FALSE\n,,false\n",
        "Email,First Name,,\nuser1@x.org,A,,\n",
        "Email,First Name,\nuser1@x.org,A\n",
        ",Email,First Name\n,user1@x.org,A\n",
        "sep=;\nEmail;First Name\nuser1@x.org;A\n",
        "\"sep=;\"\r\nEmail;First Name\r\nuser1@x.org;A\r\n",
        "sep=|\rEmail|First Name\ruser1@x.org|A\r",
        "\n,,\nEmail,First Name\nuser1@x.org,A\n",
        "\u{FEFF}\u{FEFF}Email,First Name\nuser1@x.org,A\n",
    ] {
        let (api, bench) = (Api::with_users(1), Bench::new());
        bench.update(&api, csv, &[]).exits(0);
        assert_eq!(bench.outcomes(), ["updated"], "{csv:?}");
        assert_eq!(api.member("user1@x.org").first_name, "A", "{csv:?}");
        let line = csv
            .split(['\n', '\r'])
            .position(|line| line.contains("user1"));
        let crlf = csv.matches("\r\n").count().min(2);
        assert_eq!(
            bench.results()[0]["Line"],
            (line.unwrap() + 1 - crlf).to_string(),
            "{csv:?}"
        );
    }
    let (api, bench) = (Api::with_users(1), Bench::new());
    let ran = bench.update(&api, "Email,First Name\n,\nuser1@x.org,A\n,\n", &[]);
    assert!(ran.stdout.contains("2 blank rows"), "{}", ran.stdout);
    for csv in [
        "Email,First Name,\nuser1@x.org,A,x\n",
        ",Email,First Name\n,user1@x.org,A\nx,user1@x.org,A\n",
    ] {
        let api = Api::with_users(1);
        Bench::new()
            .update(&api, csv, &[])
            .exits(2)
            .says("has no name");
        assert!(api.stats().requests.is_empty());
    }
}

/// Lines in the middle of a file that belong to another one, and ends that are missing.
#[test]
fn joined_and_cut_files_are_named_as_such() {
    let api = Api::with_users(2);
    let csv = "Email,First Name\nuser1@x.org,A\nEmail,First Name\n\u{FEFF}Email,First Name\nuser2@x.org,B\n";
    let found = rows(&api, csv, &[]);
    assert_row(&found[0], "updated", "", csv);
    assert_row(&found[1], "invalid", "repeats the header", csv);
    assert_row(&found[2], "invalid", "repeats the header", csv);
    assert_row(&found[3], "updated", "", csv);
    for (csv, outcome, says) in [
        (
            "Email,First Name\nuser1@x.org,Q\nuser2@x.o",
            "invalid",
            "cut off",
        ),
        (
            "Email,First Name,Last Name\nuser1@x.org,Q,R\nuser2@x.org,S",
            "invalid",
            "cut off",
        ),
        (
            "Email,First Name\nuser1@x.org,Q\nuser2@x.o\n",
            "invalid",
            "2",
        ),
        (
            "Email,First Name\nuser1@x.org,Q\nuser2@x.org,S",
            "updated",
            "",
        ),
    ] {
        let found = rows(&api, csv, &["--lookup", "directory"]);
        assert_row(&found[1], outcome, says, csv);
    }
}

/// A file that is no CSV is named by what it is, with what to do.
#[test]
fn files_of_other_kinds_are_named() {
    let text = "Email,First Name\nuser1@x.org,A\n";
    let units = |big: bool| -> Vec<u8> {
        let bytes = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        text.encode_utf16().flat_map(bytes).collect()
    };
    for (bytes, says) in [
        (b"<!DOCTYPE html><html>".to_vec(), "HTML"),
        (b"\n  <table><tr>".to_vec(), "HTML"),
        (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(), ".xls"),
        (b"PK\x03\x04".to_vec(), ".xlsx"),
        (b"{\"members\": []}".to_vec(), "JSON"),
        (b"\xEF\xBB\xBF[{\"Email\": 1}]".to_vec(), "JSON"),
        (b"%PDF-1.7".to_vec(), "PDF"),
        (b"{\\rtf1".to_vec(), "RTF"),
        (b"<?xml version=\"1.0\"?>".to_vec(), "XML"),
        (b"\x1F\x8B\x08".to_vec(), "gunzip"),
        (b"\x89PNG\r\n\x1A\n".to_vec(), "picture"),
        (
            b"#TYPE Selected.User\r\n\"Email\"\r\n".to_vec(),
            "-NoTypeInformation",
        ),
        (format!("Members of spring\n{text}").into(), "line 2"),
        (format!("Table 1\n{text}").into(), "line 2"),
        (format!("Report,,\nof today,,\n,,\n{text}").into(), "line 4"),
        (units(false), "utf-16le"),
        (units(true), "utf-16be"),
        (text.replace(',', "|").into(), "--delimiter '|'"),
        (text.replace(',', ":").into(), "--delimiter :"),
        (b"\n\r\n \n".to_vec(), "only blank lines"),
        (b"".to_vec(), "empty"),
        (
            b"Email,First Name\nuser1@x.org,Zo\xEB\n".to_vec(),
            "--encoding windows-1252",
        ),
        (b"Email,\"First Name\nuser1@x.org,A\n".to_vec(), "line 1"),
        (b"Email,\"First\" Name\nuser1@x.org,A\n".to_vec(), "line 1"),
    ] {
        let api = Api::with_users(1);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let ran = Bench::new().update(&api, &bytes, &[]).exits(2);
        assert!(ran.stderr.contains(says), "{shown:?}: {}", ran.stderr);
        assert!(api.stats().requests.is_empty(), "{shown:?}");
    }
}

#[test]
fn all_wrong_columns_are_named_with_what_they_may_mean() {
    let header =
        "UPN,Vorname,Nachname,Prénom,Status,Active,Primary Email,E-Mail,Dept,First\u{A0}Name\n";
    let api = Api::with_users(1);
    let ran = Bench::new().update(&api, header, &[]).exits(2);
    insta::assert_snapshot!(ran.stderr);
    let long = format!("Email,{}\n", "x".repeat(100_000));
    let ran = Bench::new().update(&api, long, &[]).exits(2);
    assert!(ran.stderr.len() < 1000, "{}", ran.stderr.len());
    // The line of the header is its line in the file.
    let ran = Bench::new().update(&api, "\n\n\nEmail,Foo\n", &[]);
    ran.exits(2).says("line 4");
}

#[test]
fn extra_and_renamed_columns_pass_if_a_flag_says_so() {
    let csv = "UPN,Vorname,Dept,Cost Center\nuser1@x.org,A,HR,=7\nnobody@x.org,B,IT,8\n";
    let named = ["--map", "UPN=Email", "--map", "Vorname=First Name"];
    for more in [
        &["--ignore-column", "Dept", "--ignore-column", "Cost Center"][..],
        &["--ignore-unknown-columns"],
    ] {
        let (api, bench) = (Api::with_users(1), Bench::new());
        let flags = [&named[..], more].concat();
        bench.update(&api, csv, &flags).exits(1);
        assert_eq!(bench.outcomes(), ["updated", "not_found"]);
        assert_eq!(api.member("user1@x.org").first_name, "A");
        // A resume needs no flags, and failed.csv those of the run.
        bench.resume(&[]).exits(1);
        let failed = bench.read("run/failed.csv");
        assert!(
            failed.starts_with("UPN,Vorname,Dept,Cost Center,Outcome,Message\n"),
            "{failed}"
        );
        let again = Bench::new();
        again
            .update(&api, failed.replace("nobody", "user1"), &flags)
            .exits(0);
        assert_eq!(api.member("user1@x.org").first_name, "B");
    }
    let api = Api::with_users(1);
    for (flags, says) in [
        (&["--map", "UPN"][..], "has no \"=\""),
        (&["--map", "UPN=Mail"], "did you mean \"Email\"?"),
        (&["--map", "UPN=Email"], "Vorname"),
        (
            &["--ignore-unknown-columns"],
            "there is no column \"Email\"",
        ),
    ] {
        Bench::new().update(&api, csv, flags).exits(2).says(says);
    }
    // The environment and the configuration file take the same.
    let bench = Bench::new();
    bench.write("input.csv", csv);
    let url = api.sandbox.url();
    let mut command = bench.command();
    command
        .args(bench.update_words(&url, &[]))
        .env("SIGMA_BULK_MAP", "UPN=Email, Vorname=First Name")
        .env("SIGMA_BULK_IGNORE_COLUMN", "Dept,Cost Center");
    Ran::of(command.output().unwrap(), &bench).exits(1);
    assert_eq!(bench.outcomes(), ["updated", "not_found"]);
    let bench = Bench::new();
    bench.write(
        "c.toml",
        "ignore-unknown-columns = true\nmap = [\"UPN=Email\", \"Vorname=First Name\"]\n",
    );
    bench.update(&api, csv, &["--config", "c.toml"]).exits(1);
    assert_eq!(bench.outcomes(), ["unchanged", "not_found"]);
}

#[test]
fn another_encoding_is_read_if_it_is_named() {
    let csv = b"Email;First Name\nuser1@x.org;Zo\xEB\nnobody@x.org;Zo\xEB\n";
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench
        .update(&api, csv, &["--encoding", "windows-1252"])
        .exits(1);
    assert_eq!(api.member("user1@x.org").first_name, "Zoë");
    // The files open right in the program that wrote the input: with its delimiter, and marked as UTF-8.
    let failed = bench.read("run/failed.csv");
    assert!(
        failed.starts_with("\u{FEFF}Email;First Name;Outcome;Message\n"),
        "{failed}"
    );
    Bench::new()
        .update(&api, csv, &["--encoding", "klingon"])
        .exits(2)
        .says("not an encoding");
}

#[test]
fn files_of_a_run_have_the_delimiter_and_the_mark_of_its_input() {
    for (mark, delimiter) in [("", ","), ("\u{FEFF}", ","), ("", ";"), ("\u{FEFF}", "\t")] {
        let (api, bench) = (Api::with_users(1), Bench::new());
        let csv = format!(
            "{mark}Email{delimiter}First Name\nuser1@x.org{delimiter}Zoë\nn@x.org{delimiter}Zoë\n"
        );
        bench.update(&api, csv, &[]).exits(1);
        for (file, second) in [
            ("results", "Line"),
            ("failed", "First Name"),
            ("undo", "First Name"),
        ] {
            let text = bench.read(&format!("run/{file}.csv"));
            let rest = text.strip_prefix(mark).expect(file);
            assert!(!rest.starts_with('\u{FEFF}'), "{file}");
            assert_eq!(
                rest.split([delimiter, "\n"].map(|c| c.chars().next().unwrap()))
                    .nth(1),
                Some(second)
            );
        }
        let again = Bench::new();
        again.update(&api, bench.read("run/undo.csv"), &[]).exits(0);
        assert_eq!(api.member("user1@x.org").first_name, "First");
    }
}

/// Values that a spreadsheet would run or change, and white space at the ends, come back exactly from the files of a run.
#[test]
fn every_value_comes_back_from_the_files_of_a_run() {
    let values = [
        "=HYPERLINK(\"http://x\",\"y\")",
        "=cmd|'/c calc'!A0",
        "@SUM(1)",
        "+1",
        "-1",
        "'=1",
        "''=1",
        " Zed",
        "Zed ",
        "\u{A0}Zed ",
        "'t Hart",
        "007",
        "1-Sep",
        "10:30",
        "two\nlines",
        "a,\"b\"",
        "Zed '",
    ];
    let members = || {
        let named = |(n, value): (usize, &&str)| Member {
            first_name: (*value).into(),
            ..user(n + 1)
        };
        Api::with(values.iter().enumerate().map(named))
    };
    let (api, bench) = (members(), Bench::new());
    let csv: String = (1..=values.len())
        .map(|n| format!("user{n}@x.org,New\n"))
        .collect();
    bench
        .update(&api, format!("Email,First Name\n{csv}"), &[])
        .exits(0);
    let undo = bench.read("run/undo.csv");
    let again = Bench::new();
    again.update(&api, &undo, &[]).exits(0);
    assert_eq!(api.state(), members().state());
    let failing = Bench::new();
    failing
        .update(&api, undo.replace("user", "nobody"), &[])
        .exits(1);
    let corrected = failing.read("run/failed.csv").replace("nobody", "user");
    let again = Bench::new();
    again.update(&api, corrected, &[]).exits(0);
    assert_eq!(again.outcomes(), vec!["unchanged"; values.len()]);
    for file in [&bench, &failing, &again] {
        for name in ["results", "failed", "undo"] {
            for line in crate::harness::lines(&file.path(&format!("run/{name}.csv"))) {
                for (column, cell) in line {
                    assert!(
                        !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                        "{column}: {cell}"
                    );
                }
            }
        }
    }
}

/// A server may keep text in another Unicode form, or without white space. That is neither a failure nor a conflict.
#[test]
fn text_that_a_server_normalized_is_what_was_sent() {
    let accented = Member {
        email: "josé@x.org".into(),
        ..user(1)
    };
    let (api, bench) = (Api::with([accented.clone()]), Bench::new());
    bench
        .update(
            &api,
            "Email,First Name\njose\u{301}@x.org,Rene\u{301}e  Lee\n",
            &[],
        )
        .exits(0);
    api.sandbox
        .edit("id1", |member| member.first_name = "Renée Lee".into())
        .unwrap();
    bench.undo(&[]).exits(0);
    assert_eq!(api.state(), Api::with([accented]).state());
}

#[test]
fn rename_that_was_done_before_is_recognized() {
    for lookup in ["directory", "each"] {
        let api = Api::with_users(2);
        let csv = "Email,New Email\nuser1@x.org,new@x.org\n";
        let row = rows(&api, csv, &["--lookup", lookup]);
        assert_row(&row[0], "updated", "", csv);
        for flags in [
            &["--lookup", lookup, "--dry-run"][..],
            &["--lookup", lookup],
        ] {
            let row = rows(&api, csv, flags);
            assert_row(&row[0], "not_found", "has this email already", csv);
        }
        let row = rows(
            &api,
            "Email,New Email\nnobody@x.org,free@x.org\n",
            &["--lookup", lookup],
        );
        assert_row(&row[0], "not_found", "no member has this email", csv);
        assert!(!row[0].1.contains("already"), "{}", row[0].1);
    }
}

/// A cell is at most 1 MiB, and a record at most 4 MiB.
#[test]
fn cells_and_records_have_a_largest_size() {
    const MIB: usize = 1024 * 1024;
    let head = "Email,First Name\nuser1@x.org,A\n";
    for (rest, says) in [
        (format!("user2@x.org,{}\n", "x".repeat(MIB + 1)), "line 3"),
        (
            format!("user2@x.org,\"{}\n", "x\n".repeat(MIB)),
            "line 3: a quote opens",
        ),
        (format!("user2@x.org{}\n", ",x".repeat(3 * MIB)), "line 3"),
        ("\0".repeat(MIB), "NUL"),
    ] {
        let api = Api::with_users(2);
        let ran = Bench::new()
            .update(&api, format!("{head}{rest}"), &[])
            .exits(2);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert!(ran.stderr.len() < 1000, "{}", ran.stderr.len());
        assert!(api.stats().requests.is_empty());
    }
}

#[test]
fn misspelled_words_get_a_suggestion() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let row = rows(&api, "Email,Member Type\nuser1@x.org,Veiwer\n", &[]);
    assert_row(&row[0], "invalid", "did you mean \"Viewer\"?", "Veiwer");
    bench.write("members.csv", "Email\n");
    bench.write("c.toml", "[profile.production]\n");
    for (words, says) in [
        (
            &["update", "memebrs.csv", "--cloud", "gcp"][..],
            "did you mean \"members.csv\"?",
        ),
        (
            &["update", "members.csv", "--cloud", "gpc"],
            "did you mean \"gcp\"?",
        ),
        (
            &[
                "update",
                "members.csv",
                "--config",
                "c.toml",
                "--profile",
                "prodution",
            ],
            "did you mean \"production\"?",
        ),
        (
            &["update", "members.csv", "--cloud", "elsewhere"],
            "it is one of aws",
        ),
    ] {
        bench.run(words).exits(2).says(says);
    }
    for word in ["WAHR", "VRAI", "ИСТИНА"] {
        let row = rows(&api, format!("Email,isArchived\nuser1@x.org,{word}\n"), &[]);
        assert_row(&row[0], "invalid", "Excel's word", word);
    }
    for word in ["1", "0", "yes", "no", "t", "x"] {
        let row = rows(&api, format!("Email,isArchived\nuser1@x.org,{word}\n"), &[]);
        assert_row(&row[0], "invalid", "write true or false", word);
    }
}
