//! Microbenchmarks of the steps that process a row: parsing, the directory, the diff and the pacing.
//! Run them with `cargo bench --bench parts`.

#![expect(clippy::expect_used, reason = "it is a benchmark")]

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sigma_bulk::parts::{
    Decision, Directory, Field, Found, KeyKind, KeyTable, Member, Others, Row, RowRequest, Rows,
    Rules, Search, SearchOptions, Table, TableOptions, Value, Values, decide, preflight,
};

const ROWS: u32 = 10_000;

fn csv() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "Email,First Name,Last Name,Member Type,isArchived").expect("written");
    for n in 0..ROWS {
        writeln!(file, "user{n:06}@example.com,First{n},Last{n},Viewer,false").expect("written");
    }
    file
}

fn member(n: u32) -> Member {
    let values: Values = [
        (
            Field::Email,
            Value::text(&format!("user{n:06}@example.com")),
        ),
        (Field::FirstName, Value::text("First")),
        (Field::LastName, Value::text("Last")),
        (Field::MemberType, Value::text("Viewer")),
        (Field::IsArchived, Value::Flag(false)),
    ]
    .into_iter()
    .collect();
    Member {
        id: format!("{n:022}").into(),
        values,
    }
}

fn parsing(criterion: &mut Criterion) {
    let file = csv();
    let options = TableOptions::default();
    let open = || Table::open("bench", file.path(), &options).expect("a table");
    let mut group = criterion.benchmark_group("parsing");
    group.throughput(Throughput::Elements(ROWS.into()));
    group.bench_function("rows", |bench| {
        bench.iter(|| {
            let mut table = open();
            while let Some(row) = table.next_entry().expect("right") {
                black_box(row);
            }
        });
    });
    group.bench_function("preflight", |bench| {
        bench.iter(|| {
            preflight("bench", || Ok(Rows::Csv(Box::new(open()))))
                .expect("right")
                .rows
        });
    });
    group.finish();
}

fn directory(criterion: &mut Criterion) {
    let mut keys = KeyTable::default();
    for n in 0..ROWS {
        keys.intern(&format!("user{n:06}@example.com"));
    }
    let members: Vec<Member> = (0..2 * ROWS).map(member).collect();
    let mut group = criterion.benchmark_group("directory");
    group.throughput(Throughput::Elements(u64::from(2 * ROWS)));
    group.bench_function("insert, half of them named", |bench| {
        bench.iter(|| {
            let mut directory = Directory::new(KeyKind::Email, &Field::ALL);
            for member in &members {
                directory.insert(&keys, member.email(), member);
            }
            directory
        });
    });
    let mut directory = Directory::new(KeyKind::Email, &Field::ALL);
    for member in &members {
        directory.insert(&keys, member.email(), member);
    }
    group.throughput(Throughput::Elements(ROWS.into()));
    group.bench_function("find", |bench| {
        bench.iter(|| {
            for id in keys.ids() {
                black_box(directory.find(&keys, id, keys.text(id)));
            }
        });
    });
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let member = member(1);
    let desired: Values = [
        (Field::FirstName, Value::text("Another")),
        (Field::MemberType, Value::text("viewer")),
        (Field::IsArchived, Value::Flag(false)),
    ]
    .into_iter()
    .collect();
    let row = Row {
        number: 1,
        line: 2,
        email: member.email().into(),
        request: RowRequest::Desired(desired),
        trimmed: 0,
    };
    let (rules, others) = (Rules::default(), Others::default());
    criterion.bench_function("decide", |bench| {
        bench.iter(|| {
            let found = Found::One(black_box(&member).clone());
            match decide(black_box(&row), found, &others, &rules, false) {
                Decision::Send { changes, .. } => changes.len(),
                Decision::Skip(_) => 0,
            }
        });
    });
}

fn pacing(criterion: &mut Criterion) {
    let mut search = Search::new(&SearchOptions {
        ceiling: None,
        gentle_start: true,
        max_capacity: 1.0,
        max_inflight: 32,
    });
    let mut now = Duration::ZERO;
    criterion.bench_function("the rate's calculator, a request", |bench| {
        bench.iter(|| {
            now += Duration::from_micros(40);
            search.sent(now);
            search.answered(now + Duration::from_micros(30), Duration::from_micros(30));
            black_box((search.rate(), search.inflight_limit(), search.hold_until()))
        });
    });
}

criterion_group!(benches, parsing, directory, deciding, pacing);
criterion_main!(benches);
