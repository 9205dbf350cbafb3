//! The members that an organization starts with, and the values that the API assigns to new members.

use std::fs::File;
use std::io::Read;

use jiff::{SignedDuration, Timestamp};

use super::{Member, Population, SandboxError};

/// The CSV of the built-in organization.
const BUILTIN: &str = include_str!("organization.csv");

/// Passes the members of a population to `each`.
///
/// # Errors
/// If the members can't be read, or `each` fails.
pub(super) fn members(
    population: &Population,
    account_types: &[String],
    mut each: impl FnMut(Member) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    match population {
        Population::Builtin => read_csv(BUILTIN.as_bytes(), each),
        Population::Generated(count) => {
            (0..*count).try_for_each(|position| each(generated(position, account_types)))
        }
        Population::Csv(path) => {
            let file = File::open(path).map_err(|source| SandboxError::Open {
                path: path.clone(),
                source,
            })?;
            read_csv(file, each)
        }
        Population::Members(members) => members.iter().cloned().try_for_each(each),
    }
}

/// Passes the members of a CSV to `each`.
pub(super) fn read_csv(
    source: impl Read,
    mut each: impl FnMut(Member) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(source);
    reader.deserialize().try_for_each(|member| each(member?))
}

fn generated(position: usize, account_types: &[String]) -> Member {
    let number = position + 1;
    let dice = scramble(position as u64);
    let mut member = Member {
        email: format!("user{number:06}@example.com"),
        first_name: (*pick(&FIRST_NAMES, dice)).to_owned(),
        last_name: (*pick(&LAST_NAMES, dice >> 16)).to_owned(),
        is_archived: number.is_multiple_of(50),
        is_inactive: number.is_multiple_of(75),
        ..Member::default()
    };
    if !account_types.is_empty() {
        pick(account_types, dice >> 32).clone_into(&mut member.member_type);
    }
    member
}

/// Mixes a 64-bit number with the output function of splitmix64, which is a bijection.
pub(super) fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns an id in the API's format of 22 letters and digits. The first half alone is unique.
pub(super) fn assigned_id(position: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let first = scramble(position as u64);
    [first, scramble(first)]
        .into_iter()
        .flat_map(|half| {
            std::iter::successors(Some(half), |rest| Some(rest / 62))
                .take(11)
                .map(|rest| char::from(*pick(DIGITS, rest)))
        })
        .collect()
}

pub(super) fn assigned_folder(position: usize) -> String {
    let (high, low) = (scramble(!(position as u64)), scramble(position as u64));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// Returns a member's creation time. Members are created one per minute, starting with the organization.
pub(super) fn made_at(position: usize) -> Timestamp {
    /// 2021-03-01T09:00:00Z
    const FOUNDED: i64 = 1_614_589_200;
    let minutes = i64::try_from(position).unwrap_or_default();
    (Timestamp::from_second(FOUNDED).ok())
        .and_then(|founded| {
            let age = SignedDuration::from_secs(minutes.saturating_mul(60));
            founded.checked_add(age).ok()
        })
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

#[expect(
    clippy::indexing_slicing,
    reason = "a remainder is within the bounds, and every list has an entry"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder is smaller than a length"
)]
fn pick<T>(list: &[T], number: u64) -> &T {
    &list[(number % list.len() as u64) as usize]
}

const FIRST_NAMES: [&str; 24] = [
    "Ada", "Amir", "Bea", "Carlos", "Chiara", "Dmitri", "Elena", "Femi", "Greta", "Hugo", "Ines",
    "Jamal", "Kenji", "Lucía", "Maya", "Noah", "Oskar", "Petra", "Ravi", "Sana", "Théo", "Uma",
    "Wei", "Zoë",
];
const LAST_NAMES: [&str; 24] = [
    "Abebe", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Hughes", "Ito", "Jensen",
    "Kaya", "Lopez", "Müller", "Nowak", "Okafor", "Park", "Quist", "Rossi", "Silva", "Tran",
    "Umar", "Vega", "Wong", "Zhang",
];
