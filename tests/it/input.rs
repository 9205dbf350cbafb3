//! Valid and invalid CSV files.

use sigma_bulk::sandbox::Endpoint;

use crate::harness::{Api, Bench, Ran};

fn utf16(text: &str, little: bool) -> Vec<u8> {
    let mark = [0xFEFF].into_iter();
    mark.chain(text.encode_utf16())
        .flat_map(|unit| {
            if little {
                unit.to_le_bytes()
            } else {
                unit.to_be_bytes()
            }
        })
        .collect()
}

/// Byte order marks, line ends, delimiters, UTF-16 and white space do not change what the file means.
#[test]
fn all_encodings_and_delimiters_read_the_same() {
    let text = "Email,First Name,Last Name\nuser1@x.org,Ærøskøbing,\"a, b\"\nuser2@x.org,X,Y\n";
    let with = |delimiter: &str| {
        format!(
            "Email{delimiter}First Name{delimiter}Last Name\nuser1@x.org{delimiter}Ærøskøbing{delimiter}\"a, b\"\nuser2@x.org{delimiter}X{delimiter}Y\n"
        )
    };
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("plain", text.into()),
        ("BOM", [b"\xEF\xBB\xBF", text.as_bytes()].concat()),
        ("CRLF", text.replace('\n', "\r\n").into()),
        ("CR", text.replace('\n', "\r").into()),
        ("no last line end", text.trim_end().into()),
        ("blank lines", text.replace('\n', "\n\n").into()),
        ("semicolons", with(";").into()),
        ("tabs", with("\t").into()),
        ("UTF-16 LE", utf16(text, true)),
        ("UTF-16 BE", utf16(&text.replace('\n', "\r\n"), false)),
        (
            "white space",
            text.replace("Ærøskøbing", "  Ærøskøbing\u{a0} ")
                .replace("Last Name", " Last Name ")
                .into(),
        ),
    ];
    for (form, bytes) in forms {
        let (api, bench) = (Api::with_users(2), Bench::new());
        let ran = bench.update(&api, bytes, &[]);
        assert_eq!(ran.code, Some(0), "{form}: {}", ran.stderr);
        let (one, two) = (api.member("user1@x.org"), api.member("user2@x.org"));
        assert_eq!(
            (one.first_name.as_str(), one.last_name.as_str()),
            ("Ærøskøbing", "a, b"),
            "{form}"
        );
        assert_eq!(
            (two.first_name.as_str(), two.last_name.as_str()),
            ("X", "Y"),
            "{form}: a single letter is a valid name"
        );
        assert_eq!(
            ran.stdout.contains("white space"),
            form == "white space",
            "{form}: {}",
            ran.stdout
        );
    }
}

/// A file of one row as Excel writes it, or as PowerShell does, which quotes every cell.
fn excel(name: &str) -> String {
    format!("Email;First Name\r\nuser1@x.org;{name}\r\n")
}

fn powershell(name: &str) -> String {
    format!("\"Email\",\"First Name\"\r\n\"user1@x.org\",\"{name}\"\r\n")
}

const REPLACED: &str = "signs that a program writes in place of letters";

/// What keeps all letters is read. Where the program has lost one, there is a warning.
#[test]
fn files_of_excel_and_powershell_are_read() {
    let tabs = excel("Zoë").replace(';', "\t");
    for (form, bytes, name) in [
        (
            "Excel, CSV UTF-8",
            format!("\u{feff}{}", excel("Zoë")).into(),
            "Zoë",
        ),
        ("Excel, Unicode Text", utf16(&tabs, true), "Zoë"),
        (
            "PowerShell 7, Export-Csv",
            powershell("Łukasz").into(),
            "Łukasz",
        ),
        (
            "PowerShell 5, -Encoding Unicode",
            utf16(&powershell("Łukasz"), true),
            "Łukasz",
        ),
        ("PowerShell 5, >", utf16(&excel("Zoë"), true), "Zoë"),
        (
            "PowerShell 5, Export-Csv",
            powershell("?ukasz").into(),
            "?ukasz",
        ),
    ] {
        let (api, bench) = (Api::with_users(1), Bench::new());
        let ran = bench.update(&api, bytes, &[]).exits(0);
        assert_eq!(api.member("user1@x.org").first_name, name, "{form}");
        let said = ran.stdout + &ran.stderr;
        assert_eq!(
            said.contains(REPLACED),
            name.contains('?'),
            "{form}: {said}"
        );
    }
}

/// What is in the encoding of a country is refused, with the encoding that reads it.
#[test]
fn files_in_other_encodings_are_refused_with_the_right_one() {
    use encoding_rs::{
        MACINTOSH, SHIFT_JIS, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253,
    };
    for (form, text, encoding, name) in [
        ("Excel", excel("Zoë"), WINDOWS_1252, "Zoë"),
        ("Excel in Poland", excel("Łukasz"), WINDOWS_1250, "Łukasz"),
        ("Excel in Greece", excel("Μαρία"), WINDOWS_1253, "Μαρία"),
        ("Excel in Japan", excel("山田"), SHIFT_JIS, "山田"),
        (
            "Excel for Mac",
            excel("Zoë").replace("\r\n", "\r"),
            MACINTOSH,
            "Zoë",
        ),
        (
            "PowerShell 5, -Encoding Default",
            powershell("Мария"),
            WINDOWS_1251,
            "Мария",
        ),
    ] {
        let bytes = encoding.encode(&text).0;
        let (api, bench) = (Api::with_users(1), Bench::new());
        let ran = bench.update(&api, &bytes, &[]).exits(2);
        let encoding = encoding.name().to_lowercase();
        let remedy = format!("--encoding {encoding} (\"{name}\")");
        assert!(ran.stderr.contains(&remedy), "{form}: {}", ran.stderr);
        let ran = bench.update(&api, &bytes, &["--encoding", &encoding]);
        ran.exits(0);
        assert_eq!(api.member("user1@x.org").first_name, name, "{form}");
    }
    // "CSV (MS-DOS)": no encoding that the tool knows has ë at this place.
    let (api, bench) = (Api::with_users(1), Bench::new());
    let dos: Vec<u8> = excel("Zo\u{89}").chars().map(|c| c as u8).collect();
    let ran = bench.update(&api, &dos, &[]).exits(2).says("CSV UTF-8");
    assert!(!ran.stderr.contains("windows-1252"), "{}", ran.stderr);
    let wrong = ["--encoding", "windows-1252", "--strict"];
    bench.update(&api, &dos, &wrong).exits(2).says(REPLACED);
    assert_eq!(api.member("user1@x.org").first_name, "First");
}

#[test]
fn line_numbers_match_a_text_editor() {
    for end in ["\n", "\r\n", "\r"] {
        let (api, bench) = (Api::with_users(3), Bench::new());
        let csv = [
            "Email,First Name",
            "",
            "nobody1@x.org,\"two",
            "lines\"",
            "",
            "",
            "nobody2@x.org,x",
            "nobody3@x.org,y",
        ];
        bench.update(&api, csv.join(end), &[]).exits(1);
        let lines: Vec<String> = bench
            .results()
            .iter()
            .map(|line| line["Line"].clone())
            .collect();
        assert_eq!(lines, ["3", "7", "8"], "{end:?}");
    }
}

#[test]
fn dash_reads_the_csv_from_standard_input() {
    use std::io::Write;
    let (api, bench) = (Api::with_users(1), Bench::new());
    let url = api.sandbox.url();
    let mut child = bench
        .command()
        .args(["update", "-", "--base-url", &url, "--run-dir", "run"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"Email,First Name\nuser1@x.org,A\n")
        .unwrap();
    Ran::of(child.wait_with_output().unwrap(), &bench).exits(0);
    assert_eq!(api.member("user1@x.org").first_name, "A");
}

/// A file that cannot be read as a whole stops the run before it sends anything.
#[test]
fn bad_file_errors_say_what_where_and_remedy() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("no Email", b"First Name,Last Name\n".to_vec()),
        ("case", b"email,First Name\n".to_vec()),
        ("alias", b"Email,Role\n".to_vec()),
        ("near", b"Email,Frist Name\n".to_vec()),
        ("far", b"Email,Shoe Size\n".to_vec()),
        ("repeated", b"Email,First Name,Email\n".to_vec()),
        (
            "a value without a column name",
            b"Email,First Name,\nuser1@x.org,A,\nuser1@x.org,A,B\n".to_vec(),
        ),
        (
            "Latin-1",
            b"Email,First Name\nuser1@x.org,A\nuser1@x.org,Ren\xe9\n".to_vec(),
        ),
        ("NUL", b"Email,First Name\nuser1@x.org,A\0\n".to_vec()),
        ("workbook", b"PK\x03\x04 and so on".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00".to_vec()),
        (
            "UTF-16 without mark",
            "Email\n"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        (
            "open quote",
            b"Email,First Name\nuser1@x.org,A\nuser1@x.org,\"B\nuser1@x.org,C\n".to_vec(),
        ),
        ("half a character of UTF-16", {
            let mut bytes = utf16("Email,First Name\nuser1@x.org,Z\n", true);
            let name = bytes.len() - 4;
            bytes.splice(name..name, 0xD83D_u16.to_le_bytes());
            bytes
        }),
        (
            "cut UTF-16",
            utf16("Email,First Name\nuser1@x.org,Z", false)[..61].into(),
        ),
        (
            "a line break in a name",
            b"\"Email\nerror: all is well\",x\n".to_vec(),
        ),
    ];
    let mut text = String::new();
    for (name, bytes) in files {
        let ran = bench.update(&api, bytes, &[]).exits(2);
        text += &format!("{name}: {}", ran.stderr);
    }
    insta::assert_snapshot!(text);
    assert_eq!(api.stats().requests_to(Endpoint::Token), 0);
    bench
        .run(&["update", "missing.csv", "--cloud", "gcp"])
        .exits(2)
        .says("missing.csv can't be opened");
    bench
        .run(&["update", ".", "--cloud", "gcp"])
        .exits(2)
        .says("directory");
}

#[test]
fn bad_row_errors_say_what_where_and_remedy() {
    let (api, bench) = (Api::with_users(9), Bench::new());
    let csv = "Email,First Name,New Email,isArchived,userKind\n\
               user1@x.org,A,,yes,\n\
               ,A,,,\n\
               user2@x.org,A\n\
               user3@x.org,A,,,,,\n\
               user4@x.org,,not-an-email,,\n\
               user5@x.org,,,,robot\n\
               user6@x.org,,,TRUE,Guest\n\
               user7@x.org, \"A\",,,\n";
    bench.update(&api, csv, &[]).exits(1);
    let text: String = bench
        .results()
        .iter()
        .map(|line| {
            format!(
                "line {}: {}: {}\n",
                line["Line"], line["Outcome"], line["Message"]
            )
        })
        .collect();
    insta::assert_snapshot!(text);
    assert_eq!(api.stats().requests_to(Endpoint::UpdateMember), 1);
    // Without corrections, failed.csv fails in the same way.
    let again = Bench::new();
    again
        .update(&api, bench.read("run/failed.csv"), &[])
        .exits(1);
    assert_eq!(again.outcomes(), ["invalid"; 7]);
}

#[test]
fn failed_csv_can_be_corrected_and_rerun() {
    let (api, bench) = (Api::with_users(3), Bench::new());
    let csv = "Email;First Name;isArchived\nuser1@x.org;\"A;\"\"1\"\"\";\nnew@x.org;\"two\nlines\";\nuser2@x.org;C;maybe\n";
    bench.update(&api, csv, &[]).exits(1);
    let failed = bench.read("run/failed.csv");
    api.sandbox
        .edit("id3", |member| member.email = "new@x.org".to_owned())
        .unwrap();
    let mended = failed.replace("maybe", "true");
    let again = Bench::new();
    again.update(&api, mended, &[]).exits(0);
    assert_eq!(again.outcomes(), ["updated", "updated"]);
    assert_eq!(api.member("new@x.org").first_name, "two\nlines");
}

/// `--delimiter` may name another character than the comma that failed.csv and undo.csv use.
#[test]
fn delimiter_setting_still_accepts_own_files() {
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email|First Name\nuser1@x.org|A\nuser2@x.org\n";
    bench.update(&api, csv, &["--delimiter", "|"]).exits(1);
    for (file, code) in [("failed.csv", 1), ("undo.csv", 0)] {
        let again = Bench::new();
        let bytes = bench.read(&format!("run/{file}"));
        again.update(&api, bytes, &["--delimiter", "|"]).exits(code);
    }
    assert_eq!(api.member("user1@x.org").first_name, "First");
    let again = Bench::new();
    again
        .update(&api, "Email|Shoe Size\n", &["--delimiter", ";"])
        .exits(2)
        .says("--delimiter '|'");
}

/// `--limit` reduces what is sent, but a damaged file is rejected even when the damage is after the limit.
#[test]
fn limit_still_checks_the_whole_file() {
    for wrong in [
        &b"user2@x.org,\xff\n"[..],
        b"user2@x.org,\0\n",
        b"user2@x.org,\"B\n",
    ] {
        let (api, bench) = (Api::with_users(2), Bench::new());
        let csv = [b"Email,First Name\nuser1@x.org,A\n", wrong].concat();
        bench.update(&api, csv, &["--limit", "1"]).exits(2);
        assert!(api.stats().requests.is_empty());
    }
    let (api, bench) = (Api::with_users(2), Bench::new());
    let csv = "Email,First Name\nuser1@x.org,\"A\nuser2@x.org,B\n";
    bench
        .update(&api, csv, &["--limit", "1"])
        .exits(2)
        .says("line 2: a quote opens");
    // A wrong row after the limit does not belong to the run.
    let csv = "Email,First Name\nuser1@x.org,A\nuser2@x.org\n";
    bench
        .update(&api, csv, &["--limit", "1", "--strict"])
        .exits(0);
    assert_eq!(bench.outcomes(), ["updated"]);
}

#[test]
fn header_only_file_succeeds_with_no_rows() {
    let (api, bench) = (Api::with_users(1), Bench::new());
    bench.update(&api, "Email,First Name\n", &[]).exits(0);
    assert_eq!(bench.summary()["rows"], 0);
}

#[test]
fn concurrent_run_matches_sequential_run() {
    // Runs 600 rows of all kinds with a concurrency of eight and of one.
    let mut random = fastrand::Rng::with_seed(11);
    let mut csv =
        "Email,First Name,Last Name,New Email,Member Type,isArchived,userKind\n".to_owned();
    for n in 1..=600 {
        let mut maybe = |value: String| {
            if random.f32() < 0.4 {
                value
            } else {
                String::new()
            }
        };
        let (first, last) = (maybe(format!("F{}", n % 7)), maybe(format!("L{n}")));
        let new = maybe(if n % 5 == 0 {
            format!("user{}@x.org", n + 1)
        } else {
            format!("new{n}@x.org")
        });
        let kind = maybe(["Creator", "Viewer", "Wizard"][n % 3].to_owned());
        let archived = maybe(["true", "FALSE", "maybe"][n % 3].to_owned());
        let user_kind = maybe("guest".to_owned());
        csv += &format!("user{n}@x.org,{first},{last},{new},{kind},{archived},{user_kind}\n");
    }
    let run = |concurrency: &str| {
        let (api, bench) = (Api::with_users(590), Bench::new());
        bench
            .update(&api, &csv, &["--concurrency", concurrency])
            .exits(1);
        assert_eq!(api.stats().peak_in_flight_one_member, 1);
        bench.check_files();
        (api.state(), bench.outcomes())
    };
    assert_eq!(run("8"), run("1"));
}

/// Quotes that are wrong within a line make that row invalid; those that may have moved other rows make the file wrong.
#[test]
fn wrong_quotes_are_never_repaired() {
    let columns = "Email,First Name,Last Name\n";
    for cell in [
        r#""Zed \"Z\" Q""#,
        r#""Bob "Bobby" S""#,
        r#""Zed" Z"#,
        r#"Zed "Z""#,
        r#"5" Ann"#,
        r#" "Zed""#,
        r#""Zed" "#,
    ] {
        let (api, bench) = (Api::with_users(2), Bench::new());
        let csv = format!("{columns}user1@x.org,{cell},Q\nuser2@x.org,B,Q\n");
        bench.update(&api, &csv, &[]).exits(1);
        assert_eq!(bench.outcomes(), ["invalid", "updated"], "{cell}");
        assert_eq!(api.member("user1@x.org").first_name, "First", "{cell}");
        // The file of failed rows has right quotes and values that may be wrong.
        let again = Bench::new();
        again
            .update(&api, bench.read("run/failed.csv"), &[])
            .exits(1);
        assert_eq!(again.outcomes(), ["invalid"], "{cell}");
    }
    for (rows, line) in [
        // The second row becomes a part of the first one's first name.
        ("user1@x.org,\"Zed,Ash\nuser2@x.org,\"Bob\",Birch\n", 2),
        ("user1@x.org,\"Zed,Ash\nuser2@x.org,Bob\",Birch\n", 2),
        ("user1@x.org,A,B\nuser2@x.org,\"\"\"Bob,C\n", 3),
    ] {
        let (api, bench) = (Api::with_users(2), Bench::new());
        let csv = format!("{columns}{rows}");
        let ran = bench.update(&api, &csv, &[]).exits(2);
        assert!(
            ran.stderr.contains(&format!("line {line}")),
            "{}",
            ran.stderr
        );
        assert!(api.stats().requests.is_empty());
    }
    for cell in [
        "\"two\nlines\"",
        "\"two\r\nlines\"",
        "\"Zed \"\"Z\"\" Q\"",
        "\"Q, Zed\"",
        "\"\"\"Zed\"\"\"",
    ] {
        let (api, bench) = (Api::with_users(1), Bench::new());
        let csv = format!("{columns}user1@x.org,{cell},Q\n");
        bench.update(&api, &csv, &[]).exits(0);
        let value = cell[1..cell.len() - 1].replace("\"\"", "\"");
        assert_eq!(api.member("user1@x.org").first_name, value);
    }
}
