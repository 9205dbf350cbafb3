//! The organization: its members and the API's rules about them. Pure: no HTTP, no clock, no
//! faults. Members are packed (names of types are interned, what can be derived isn't stored) and
//! found through two tables of positions, so that a million of them fit and none is searched for.

use std::{
    borrow::Cow,
    fs::File,
    hash::BuildHasher,
    io::{Read, Write},
};

use hashbrown::{DefaultHashBuilder, HashTable};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Config, Population, SandboxError};

/// The small organization that comes with the sandbox.
const BUILTIN: &str = include_str!("organization.csv");

/// The types of user that the API knows.
const USER_KINDS: [&str; 3] = ["internal", "guest", "embed"];

/// A member, as tests put one in and look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The id; left empty, the sandbox assigns one.
    pub member_id: String,
    /// The address, in the case in which it's kept.
    pub email: String,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The account type's name; left empty, the organization's plainest one.
    pub member_type: String,
    /// Whether the member is deactivated.
    pub is_archived: bool,
    /// Whether the member was archived by SCIM.
    pub is_inactive: bool,
    /// `internal`, `guest` or `embed`; left empty, `internal`.
    pub user_kind: String,
    /// The folder "My Documents"; left empty, the sandbox assigns one.
    pub home_folder_id: String,
    /// The picture's address.
    pub profile_img_url: Option<String>,
}

impl Member {
    /// An active internal member without a name.
    #[must_use]
    pub fn new(email: impl Into<String>) -> Self {
        Self {
            email: email.into(),
            ..Self::default()
        }
    }
}

/// Why the API refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("The access token is missing, unknown or expired")]
    Unauthorized,
    #[error("The client credentials are not valid")]
    WrongCredentials,
    #[error("Only an admin may do this")]
    Forbidden,
    #[error("Member not found")]
    UnknownMember,
    #[error("Member type name is not found")]
    UnknownType,
    #[error("No such endpoint")]
    UnknownEndpoint,
    #[error("Duplicate record")]
    Duplicate,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// An interned name of an account type or a kind of user.
type Symbol = u32;

/// A member as it's kept.
#[derive(Debug)]
struct Record {
    id: Box<str>,
    email: Box<str>,
    first_name: Box<str>,
    last_name: Box<str>,
    /// Derived from the position unless given.
    home_folder_id: Option<Box<str>>,
    profile_img_url: Option<Box<str>>,
    /// `None`: not since it was made.
    updated_at: Option<Timestamp>,
    member_type: Symbol,
    user_kind: Symbol,
    is_archived: bool,
    is_inactive: bool,
}

/// A member as it's shown.
#[derive(Clone, Debug)]
pub(super) struct MemberView<'a> {
    pub(super) member_id: &'a str,
    pub(super) email: &'a str,
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
    pub(super) member_type: &'a str,
    pub(super) user_kind: &'a str,
    pub(super) home_folder_id: Cow<'a, str>,
    pub(super) profile_img_url: Option<&'a str>,
    pub(super) is_archived: bool,
    pub(super) is_inactive: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// Which members a listing shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter<'a> {
    /// Exactly this address.
    pub(super) email: Option<&'a str>,
    /// This text in the address or the name, in any case.
    pub(super) search: Option<&'a str>,
    pub(super) archived: bool,
    pub(super) inactive: bool,
}

/// A stretch of a listing.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) entries: Vec<MemberView<'a>>,
    /// Where the next stretch begins.
    pub(super) next: Option<usize>,
}

/// What a PATCH asks for, checked as far as that's possible without the organization.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Patch<'a> {
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    email: Option<&'a str>,
    member_type: Option<&'a str>,
    user_kind: Option<&'a str>,
    new_owner_id: Option<&'a str>,
    picture: Option<Picture<'a>>,
    is_archived: Option<bool>,
    is_inactive: Option<bool>,
}

/// What becomes of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Picture<'a> {
    Gone,
    At(&'a str),
}

impl<'a> Patch<'a> {
    pub(super) fn parse(body: &'a Map<String, Value>) -> Result<Self, Refusal> {
        let mut patch = Self::default();
        let mut documents = None;
        for (field, value) in body {
            match field.as_str() {
                "firstName" => patch.first_name = Some(text(field, value)?),
                "lastName" => patch.last_name = Some(text(field, value)?),
                "email" => patch.email = Some(address(text(field, value)?)?),
                "memberType" => patch.member_type = Some(text(field, value)?),
                "userKind" => patch.user_kind = Some(kind(text(field, value)?)?),
                "newOwnerId" => patch.new_owner_id = Some(text(field, value)?),
                "profileImgUrl" if value.is_null() => patch.picture = Some(Picture::Gone),
                "profileImgUrl" => patch.picture = Some(Picture::At(text(field, value)?)),
                "isArchived" => patch.is_archived = Some(flag(field, value)?),
                "isInactive" => patch.is_inactive = Some(flag(field, value)?),
                "archiveDocuments" | "archiveScheduledExports" => {
                    flag(field, value)?;
                    documents = Some(field);
                }
                _ => return Err(Refusal::invalid(format!("Unknown field {field:?}"))),
            }
        }
        let leaves = patch.is_archived == Some(true) || patch.is_inactive == Some(true);
        match documents {
            Some(field) if !leaves => Err(Refusal::invalid(format!(
                "{field:?} needs isArchived or isInactive to be true"
            ))),
            _ => Ok(patch),
        }
    }
}

fn text<'a>(field: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    (value.as_str()).ok_or_else(|| Refusal::invalid(format!("{field:?} must be a string")))
}

fn flag(field: &str, value: &Value) -> Result<bool, Refusal> {
    (value.as_bool()).ok_or_else(|| Refusal::invalid(format!("{field:?} must be a boolean")))
}

fn address(email: &str) -> Result<&str, Refusal> {
    if email.contains('@') {
        Ok(email)
    } else {
        Err(Refusal::invalid("\"email\" must be an address"))
    }
}

fn kind(name: &str) -> Result<&str, Refusal> {
    if USER_KINDS.contains(&name) {
        Ok(name)
    } else {
        Err(Refusal::invalid(
            "\"userKind\" must be internal, guest or embed",
        ))
    }
}

/// The members and their rules.
pub(super) struct Organization {
    records: Vec<Record>,
    /// Positions by member id.
    by_id: HashTable<usize>,
    /// Positions by folded email. Several members may share one, when a population says so.
    by_email: HashTable<usize>,
    hasher: DefaultHashBuilder,
    names: Names,
    /// The account types' names, as they're written.
    account_types: Vec<String>,
    /// How many members are neither archived nor inactive, archived, inactive, both.
    census: [usize; 4],
}

impl Organization {
    pub(super) fn new(config: &Config) -> Result<Self, SandboxError> {
        let mut organization = Self {
            records: Vec::new(),
            by_id: HashTable::new(),
            by_email: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            names: Names::default(),
            account_types: config.account_types.clone(),
            census: [0; 4],
        };
        match &config.population {
            Population::Builtin => organization.read(BUILTIN.as_bytes())?,
            Population::Generated(count) => organization.generate(*count)?,
            Population::Csv(path) => {
                let file = File::open(path).map_err(|source| SandboxError::Open {
                    path: path.clone(),
                    source,
                })?;
                organization.read(file)?;
            }
            Population::Members(members) => {
                for member in members {
                    organization.add(member)?;
                }
            }
        }
        Ok(organization)
    }

    fn read(&mut self, source: impl Read) -> Result<(), SandboxError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(source);
        for row in reader.deserialize::<Row>() {
            self.add(&row?.into())?;
        }
        Ok(())
    }

    fn generate(&mut self, count: usize) -> Result<(), SandboxError> {
        self.records.reserve_exact(count);
        // The tables are empty, so there's nothing to hash again.
        self.by_id.reserve(count, |_| 0);
        self.by_email.reserve(count, |_| 0);
        for position in 0..count {
            let number = position + 1;
            let dice = scramble(position as u64);
            let mut member = Member {
                email: format!("user{number:06}@example.com"),
                first_name: pick(&FIRST_NAMES, dice).to_string(),
                last_name: pick(&LAST_NAMES, dice >> 16).to_string(),
                is_archived: number.is_multiple_of(50),
                is_inactive: number.is_multiple_of(75),
                ..Member::default()
            };
            if !self.account_types.is_empty() {
                pick(&self.account_types, dice >> 32).clone_into(&mut member.member_type);
            }
            self.add(&member)?;
        }
        Ok(())
    }

    /// Takes in a new member. No two may have the same id or the very same address; addresses
    /// that differ in case only are let in, for the sake of tests.
    pub(super) fn add(&mut self, member: &Member) -> Result<usize, SandboxError> {
        let position = self.records.len();
        let record = self.pack(member, position);
        if self.by_id(&record.id).is_some() {
            return Err(SandboxError::DuplicateId(record.id.into()));
        }
        if self.by_exact_email(&record.email).is_some() {
            return Err(SandboxError::DuplicateEmail(record.email.into()));
        }
        self.count(&record, true);
        let hash = self.hash(&record.id);
        self.records.push(record);
        let (records, hasher) = (&self.records, &self.hasher);
        self.by_id.insert_unique(hash, position, |at| {
            hasher.hash_one(records.get(*at).map_or("", |record| &record.id))
        });
        self.index_email(position);
        Ok(position)
    }

    /// Puts other values in a member's place, whatever the rules say. Its id stays.
    pub(super) fn put(&mut self, position: usize, member: &Member, now: Timestamp) {
        let mut record = self.pack(member, position);
        record.updated_at = Some(now);
        self.replace(position, record);
    }

    /// What a PATCH does. All of it is checked before any of it is done.
    pub(super) fn update(
        &mut self,
        id: &str,
        patch: &Patch<'_>,
        now: Timestamp,
    ) -> Result<usize, Refusal> {
        let position = self.by_id(id).ok_or(Refusal::UnknownMember)?;
        if let Some(owner) = patch.new_owner_id
            && self.by_id(owner).is_none()
        {
            return Err(Refusal::invalid("\"newOwnerId\" is not a member"));
        }
        let member_type = match patch.member_type {
            Some(name) => Some(self.account_type(name).ok_or(Refusal::UnknownType)?),
            None => None,
        };
        if let Some(email) = patch.email
            && (self.sharing(&fold(email))).any(|other| other != position)
        {
            return Err(Refusal::Duplicate);
        }
        let user_kind = patch.user_kind.map(|kind| self.names.intern(kind));
        let old = self.records.get(position).ok_or(Refusal::UnknownMember)?;
        let or_old = |new: Option<&str>, old: &str| Box::from(new.unwrap_or(old));
        let record = Record {
            id: old.id.clone(),
            email: or_old(patch.email, &old.email),
            first_name: or_old(patch.first_name, &old.first_name),
            last_name: or_old(patch.last_name, &old.last_name),
            home_folder_id: old.home_folder_id.clone(),
            profile_img_url: match patch.picture {
                Some(Picture::At(url)) => Some(url.into()),
                Some(Picture::Gone) => None,
                None => old.profile_img_url.clone(),
            },
            updated_at: Some(now),
            member_type: member_type.unwrap_or(old.member_type),
            user_kind: user_kind.unwrap_or(old.user_kind),
            is_archived: patch.is_archived.unwrap_or(old.is_archived),
            is_inactive: patch.is_inactive.unwrap_or(old.is_inactive),
        };
        self.replace(position, record);
        Ok(position)
    }

    /// A stretch of the members that pass the filter, in the order of their making. Every page
    /// goes on where the last one stopped, so that a whole listing looks at each member once.
    pub(super) fn page(&self, filter: &Filter<'_>, from: usize, limit: usize) -> Page<'_> {
        let mut passing = self.passing(filter, from);
        let entries = passing.by_ref().take(limit).map(|(_, view)| view).collect();
        let next = passing.next().map(|(position, _)| position);
        Page { entries, next }
    }

    /// How many members pass the filter. Only a search has to look at them.
    pub(super) fn total(&self, filter: &Filter<'_>) -> usize {
        if filter.email.is_some() || filter.search.is_some() {
            return self.passing(filter, 0).count();
        }
        let [active, archived, inactive, both] = self.census;
        active
            + if filter.archived { archived } else { 0 }
            + if filter.inactive { inactive } else { 0 }
            + if filter.archived && filter.inactive {
                both
            } else {
                0
            }
    }

    fn passing<'a>(
        &'a self,
        filter: &Filter<'_>,
        from: usize,
    ) -> impl Iterator<Item = (usize, MemberView<'a>)> {
        let Filter {
            archived, inactive, ..
        } = *filter;
        let search = filter.search.map(str::to_lowercase);
        // One address has at most one member; the rest of the filter still applies.
        let range = match filter.email.map(|email| self.by_exact_email(email)) {
            None => from..self.records.len(),
            Some(Some(position)) if position >= from => position..position + 1,
            Some(_) => 0..0,
        };
        range
            .filter_map(|position| Some((position, self.records.get(position)?)))
            .filter(move |(_, record)| {
                (archived || !record.is_archived) && (inactive || !record.is_inactive)
            })
            .filter(move |(_, record)| search.as_deref().is_none_or(|text| record.mentions(text)))
            .map(|(position, record)| (position, self.show(position, record)))
    }

    pub(super) fn view(&self, position: usize) -> Option<MemberView<'_>> {
        let record = self.records.get(position)?;
        Some(self.show(position, record))
    }

    pub(super) fn by_id(&self, id: &str) -> Option<usize> {
        let matches = |at: &usize| self.records.get(*at).is_some_and(|one| *one.id == *id);
        self.by_id.find(self.hash(id), matches).copied()
    }

    /// The member with that address, or else one whose address differs in case only.
    pub(super) fn by_email(&self, email: &str) -> Option<usize> {
        (self.by_exact_email(email)).or_else(|| self.sharing(&fold(email)).min())
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Writes the members as the CSV from which a population can be read.
    pub(super) fn write_csv(&self, target: impl Write) -> csv::Result<()> {
        let mut writer = csv::Writer::from_writer(target);
        for view in (0..self.len()).filter_map(|position| self.view(position)) {
            writer.serialize(Row::from(Member::from(&view)))?;
        }
        writer.flush()?;
        Ok(())
    }

    fn by_exact_email(&self, email: &str) -> Option<usize> {
        self.sharing(&fold(email))
            .find(|at| (self.records.get(*at)).is_some_and(|one| *one.email == *email))
    }

    /// The members with this folded address.
    fn sharing(&self, folded: &str) -> impl Iterator<Item = usize> {
        self.by_email
            .iter_hash(self.hash(folded))
            .copied()
            .filter(move |at| (self.records.get(*at)).is_some_and(|one| fold(&one.email) == folded))
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn replace(&mut self, position: usize, mut record: Record) {
        let Some(place) = self.records.get_mut(position) else {
            return;
        };
        record.id.clone_from(&place.id);
        let moved = fold(&place.email) != fold(&record.email);
        if moved {
            let hash = self.hasher.hash_one(&*fold(&place.email));
            if let Ok(entry) = self.by_email.find_entry(hash, |at| *at == position) {
                entry.remove();
            }
        }
        let old = std::mem::replace(place, record);
        self.count(&old, false);
        if let Some(slot) = self.records.get(position).map(Record::census_slot) {
            self.tally(slot, true);
        }
        if moved {
            self.index_email(position);
        }
    }

    fn index_email(&mut self, position: usize) {
        let (records, hasher) = (&self.records, &self.hasher);
        let hash = |at: &usize| {
            let email = records.get(*at).map_or("", |record| &record.email);
            hasher.hash_one(&*fold(email))
        };
        self.by_email.insert_unique(hash(&position), position, hash);
    }

    fn count(&mut self, record: &Record, comes: bool) {
        self.tally(record.census_slot(), comes);
    }

    fn tally(&mut self, slot: usize, comes: bool) {
        if let Some(count) = self.census.get_mut(slot) {
            *count = if comes {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        }
    }

    /// The account type of that name in any case, as it's written.
    fn account_type(&mut self, name: &str) -> Option<Symbol> {
        let folded = fold(name);
        let written = (self.account_types.iter()).find(|written| fold(written) == folded)?;
        Some(self.names.intern(written))
    }

    fn pack(&mut self, member: &Member, position: usize) -> Record {
        let given = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        let member_type = if member.member_type.is_empty() {
            let plain = |name: &&String| name.as_str() == "Viewer";
            let types = &self.account_types;
            let name = types.iter().find(plain).or_else(|| types.last());
            self.names.intern(name.map_or("Viewer", String::as_str))
        } else {
            self.names.intern(&member.member_type)
        };
        let user_kind = if member.user_kind.is_empty() {
            "internal"
        } else {
            &member.user_kind
        };
        Record {
            id: given(&member.member_id).unwrap_or_else(|| assigned_id(position).into()),
            email: member.email.as_str().into(),
            first_name: member.first_name.as_str().into(),
            last_name: member.last_name.as_str().into(),
            home_folder_id: given(&member.home_folder_id)
                .filter(|folder| **folder != *assigned_folder(position)),
            profile_img_url: member.profile_img_url.as_deref().map(Into::into),
            updated_at: None,
            member_type,
            user_kind: self.names.intern(user_kind),
            is_archived: member.is_archived,
            is_inactive: member.is_inactive,
        }
    }

    fn show<'a>(&'a self, position: usize, record: &'a Record) -> MemberView<'a> {
        let created_at = made_at(position);
        MemberView {
            member_id: &record.id,
            email: &record.email,
            first_name: &record.first_name,
            last_name: &record.last_name,
            member_type: self.names.get(record.member_type),
            user_kind: self.names.get(record.user_kind),
            home_folder_id: (record.home_folder_id.as_deref())
                .map_or_else(|| Cow::Owned(assigned_folder(position)), Cow::Borrowed),
            profile_img_url: record.profile_img_url.as_deref(),
            is_archived: record.is_archived,
            is_inactive: record.is_inactive,
            created_at,
            updated_at: record.updated_at.unwrap_or(created_at),
        }
    }
}

impl Record {
    fn census_slot(&self) -> usize {
        usize::from(self.is_archived) + 2 * usize::from(self.is_inactive)
    }

    fn mentions(&self, lowercase: &str) -> bool {
        let name = format!("{} {}", self.first_name, self.last_name);
        fold(&self.email).contains(lowercase) || fold(&name).contains(lowercase)
    }
}

impl From<&MemberView<'_>> for Member {
    fn from(view: &MemberView<'_>) -> Self {
        Self {
            member_id: view.member_id.to_owned(),
            email: view.email.to_owned(),
            first_name: view.first_name.to_owned(),
            last_name: view.last_name.to_owned(),
            member_type: view.member_type.to_owned(),
            is_archived: view.is_archived,
            is_inactive: view.is_inactive,
            user_kind: view.user_kind.to_owned(),
            home_folder_id: view.home_folder_id.clone().into_owned(),
            profile_img_url: view.profile_img_url.map(ToOwned::to_owned),
        }
    }
}

/// A line of the CSV of members. Columns of other names are passed over, so that many a list of
/// members fits as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(rename = "Email")]
    email: String,
    #[serde(rename = "First Name", default)]
    first_name: String,
    #[serde(rename = "Last Name", default)]
    last_name: String,
    #[serde(rename = "Member Type", default)]
    member_type: String,
    #[serde(rename = "isArchived", default, deserialize_with = "cell_flag")]
    is_archived: bool,
    #[serde(rename = "isInactive", default, deserialize_with = "cell_flag")]
    is_inactive: bool,
    #[serde(rename = "userKind", default)]
    user_kind: String,
    #[serde(rename = "Member ID", default)]
    member_id: String,
}

impl From<Row> for Member {
    fn from(row: Row) -> Self {
        Self {
            member_id: row.member_id,
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            member_type: row.member_type,
            is_archived: row.is_archived,
            is_inactive: row.is_inactive,
            user_kind: row.user_kind,
            ..Self::default()
        }
    }
}

impl From<Member> for Row {
    fn from(member: Member) -> Self {
        Self {
            email: member.email,
            first_name: member.first_name,
            last_name: member.last_name,
            member_type: member.member_type,
            is_archived: member.is_archived,
            is_inactive: member.is_inactive,
            user_kind: member.user_kind,
            member_id: member.member_id,
        }
    }
}

/// A truth value in any case; an empty cell is false.
fn cell_flag<'de, D: serde::Deserializer<'de>>(cell: D) -> Result<bool, D::Error> {
    let text = String::deserialize(cell)?;
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.is_empty() || text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(serde::de::Error::custom(format!(
            "{text:?} is neither true nor false"
        )))
    }
}

/// The names of account types and kinds of users that occur. There are few of them, so they are
/// looked for one by one.
#[derive(Debug, Default)]
struct Names(Vec<Box<str>>);

impl Names {
    fn intern(&mut self, name: &str) -> Symbol {
        let at = (self.0.iter().position(|known| **known == *name)).unwrap_or_else(|| {
            self.0.push(name.into());
            self.0.len() - 1
        });
        Symbol::try_from(at).unwrap_or(Symbol::MAX)
    }

    fn get(&self, symbol: Symbol) -> &str {
        let at = usize::try_from(symbol).unwrap_or(usize::MAX);
        self.0.get(at).map_or("", |name| name)
    }
}

/// The form under which texts that differ in case only are the same.
fn fold(text: &str) -> Cow<'_, str> {
    if text
        .chars()
        .any(|one| one.is_ascii_uppercase() || !one.is_ascii())
    {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// A bijection of the 64-bit numbers that leaves no pattern (splitmix64's finish).
pub(super) fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An id that looks like the API's: 22 letters and digits. The first half alone is unique.
fn assigned_id(position: usize) -> String {
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

fn assigned_folder(position: usize) -> String {
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

/// When a member was made: one a minute since the organization was.
fn made_at(position: usize) -> Timestamp {
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

#[cfg(test)]
mod tests {
    use super::super::{OWN_EMAIL, OWN_MEMBER_ID};
    use super::*;
    use serde_json::json;

    type Outcome = Result<(), SandboxError>;

    const TOM: &str = "tom.baker@example.com";

    fn organization(population: Population) -> Result<Organization, SandboxError> {
        Organization::new(&Config {
            population,
            ..Config::default()
        })
    }

    fn member(organization: &Organization, email: &str) -> Option<Member> {
        let view = organization.view(organization.by_email(email)?)?;
        Some(Member::from(&view))
    }

    /// Sends Tom a PATCH.
    fn patch(organization: &mut Organization, body: &Value) -> Result<Member, Refusal> {
        let id = member(organization, TOM).unwrap_or_default().member_id;
        let patch = Patch::parse(body.as_object().ok_or(Refusal::UnknownEndpoint)?)?;
        let position = organization.update(&id, &patch, Timestamp::UNIX_EPOCH)?;
        (organization.view(position))
            .map(|view| Member::from(&view))
            .ok_or(Refusal::UnknownMember)
    }

    #[test]
    fn the_builtin_organization_is_what_the_docs_say() -> Outcome {
        let organization = organization(Population::Builtin)?;
        let own = member(&organization, OWN_EMAIL).map(|own| own.member_id);
        assert_eq!(own.as_deref(), Some(OWN_MEMBER_ID));
        assert_eq!(organization.len(), 24);
        assert_eq!(organization.census, [21, 2, 1, 0]);
        Ok(())
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() -> Outcome {
        let mut organization = organization(Population::Builtin)?;
        let expected = member(&organization, TOM).map(|before| Member {
            member_type: "Explorer".into(),
            email: "t.baker@example.com".into(),
            ..before
        });
        let body = json!({"memberType": "EXPLORER", "email": "t.baker@example.com"});
        assert_eq!(patch(&mut organization, &body).ok(), expected);
        assert_eq!(organization.by_email(TOM), None);
        assert_eq!(member(&organization, "T.Baker@example.com"), expected);
        Ok(())
    }

    #[test]
    fn refusals_name_their_reason_and_change_nothing() -> Outcome {
        let mut organization = organization(Population::Builtin)?;
        let before = member(&organization, TOM);
        let invalid = |text: &str| Refusal::invalid(text);
        for (body, refusal) in [
            (
                json!({"nickname": "T"}),
                invalid("Unknown field \"nickname\""),
            ),
            (
                json!({"firstName": 1}),
                invalid("\"firstName\" must be a string"),
            ),
            (
                json!({"isArchived": "true"}),
                invalid("\"isArchived\" must be a boolean"),
            ),
            (
                json!({"newOwnerId": "nobody"}),
                invalid("\"newOwnerId\" is not a member"),
            ),
            (
                json!({"userKind": "robot"}),
                invalid("\"userKind\" must be internal, guest or embed"),
            ),
            (
                json!({"isArchived": false, "archiveDocuments": true}),
                invalid("\"archiveDocuments\" needs isArchived or isInactive to be true"),
            ),
            (
                json!({"firstName": "T", "memberType": "Root"}),
                Refusal::UnknownType,
            ),
            (json!({"email": "ADMIN@example.com"}), Refusal::Duplicate),
        ] {
            let answer = patch(&mut organization, &body);
            assert_eq!(answer, Err(refusal), "{body}");
        }
        assert_eq!(member(&organization, TOM), before);
        // The case of one's own address may change.
        let renamed = patch(&mut organization, &json!({"email": TOM}));
        assert_eq!(renamed.map(|tom| tom.email).as_deref(), Ok(TOM));
        Ok(())
    }

    #[test]
    fn paging_shows_every_passing_member_once() -> Outcome {
        let organization = organization(Population::Generated(1000))?;
        for (archived, inactive) in [(false, false), (true, false), (false, true), (true, true)] {
            let filter = Filter {
                archived,
                inactive,
                ..Filter::default()
            };
            let (mut seen, mut from) = (Vec::new(), Some(0));
            while let Some(start) = from {
                let page = organization.page(&filter, start, 7);
                assert!(!page.entries.is_empty());
                seen.extend(page.entries.iter().map(|entry| entry.email));
                from = page.next;
            }
            assert_eq!(seen.len(), organization.total(&filter));
            assert!(seen.is_sorted());
            assert_eq!(seen.len() == 1000, archived && inactive);
        }
        Ok(())
    }

    #[test]
    fn an_address_is_filtered_in_its_case_and_a_search_in_any() -> Outcome {
        let organization = organization(Population::Builtin)?;
        let find = |email, search| {
            let filter = Filter {
                email,
                search,
                ..Filter::default()
            };
            let page = organization.page(&filter, 0, 50);
            assert_eq!(page.entries.len(), organization.total(&filter));
            page.entries.len()
        };
        assert_eq!(find(Some("Tom.Baker@Example.com"), None), 1);
        assert_eq!(find(Some(TOM), None), 0);
        assert_eq!(find(Some("nils.aalto@example.com"), None), 0, "archived");
        assert_eq!(find(None, Some("SMITH")), 2);
        assert_eq!(find(None, Some("ÅNGSTRÖM")), 1);
        Ok(())
    }

    #[test]
    fn the_csv_of_the_members_makes_the_same_members() -> Outcome {
        let first = organization(Population::Builtin)?;
        let mut written = Vec::new();
        first.write_csv(&mut written)?;
        let mut second = organization(Population::Members(Vec::new()))?;
        second.read(written.as_slice())?;
        let all = |of: &Organization| -> Vec<Member> {
            (0..of.len())
                .filter_map(|position| of.view(position))
                .map(|view| Member::from(&view))
                .collect()
        };
        assert_eq!(all(&first), all(&second));
        Ok(())
    }

    #[test]
    fn twins_in_case_live_together_and_exact_twins_do_not() -> Outcome {
        let mut organization = organization(Population::Members(vec![
            Member::new("a@example.com"),
            Member::new("A@example.com"),
        ]))?;
        assert_eq!(organization.by_email("A@example.com"), Some(1));
        assert!(organization.add(&Member::new("a@example.com")).is_err());
        Ok(())
    }
}
