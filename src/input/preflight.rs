//! Reads and checks the whole file before anything is sent.
//!
//! The first pass collects the keys and what each row says by itself. A further pass runs only if rows are
//! related to one another, and looks only at those rows. Memory use therefore grows with the number of keys,
//! not with the number of cells.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::damage::{Warnings, damage};
use super::relations::{Claim, Relations};
use super::{BadRow, Entry, InputError, KeyId, KeyTable, Row, RowRequest, Rows};
use crate::model::{Field, fold};
use crate::output::count;

/// The number of invalid rows kept for the message of `--strict`; nobody reads more than this.
const BAD_ROWS_KEPT: usize = 20;

/// The results of reading the whole file.
#[derive(Debug, Default)]
pub struct Preflight {
    /// The number of rows.
    pub rows: u32,
    /// The keys of the members, of the new owners, and of the new emails.
    pub keys: KeyTable,
    /// The relations between the rows.
    pub relations: Relations,
    /// The number of cells that had surrounding white space.
    pub trimmed: u64,
    /// The number of rows that are invalid and are not sent.
    pub bad_rows: u32,
    /// The first of the invalid rows.
    pub bad_examples: Vec<BadRow>,
    /// The number of members to look up: those named by rows, the new owners, and the holders of new emails.
    pub lookups: usize,
    /// Folded emails that rows name and that the run itself assigns or frees, so that a lookup during the run
    /// could already see a rename. Emails that rows spell in several ways are included.
    pub contested: Vec<KeyId>,
    /// Whether any row requests an account type.
    pub has_types: bool,
    uses: Uses,
    /// The number of rows that request a new owner or archived documents without archiving the member.
    pub stray_companions: u32,
    /// The members that rows archive.
    pub archived: HashSet<KeyId>,
    /// Cells that look damaged.
    pub(crate) warnings: Warnings,
    /// The number of blank rows that were skipped.
    pub blank_rows: u64,
}

/// How each key is used, as one byte of bit flags.
#[derive(Debug, Default)]
struct Uses(Vec<u8>);

impl Uses {
    /// The key is a row's member.
    const MEMBER: u8 = 1;
    /// The key is a new owner.
    const OWNER: u8 = 2;
    /// The key is a new email.
    const NEW_EMAIL: u8 = 4;
    /// A row spells the key differently from its stored form.
    const OTHER_CASE: u8 = 8;
    /// The key is looked up.
    const LOOKED_UP: u8 = Self::MEMBER | Self::OWNER | Self::NEW_EMAIL;

    fn add(&mut self, id: KeyId, r#use: u8) -> u8 {
        if self.0.len() <= id.index() {
            self.0.resize(id.index() + 1, 0);
        }
        self.0.get_mut(id.index()).map_or(0, |uses| {
            let before = *uses;
            *uses |= r#use;
            before
        })
    }

    fn of(&self, id: KeyId) -> u8 {
        self.0.get(id.index()).copied().unwrap_or(0)
    }
}

/// Returns the key of a new owner, as a row names it: the folded email, or the id as it is.
pub(crate) fn owner_key(owner: &str) -> Cow<'_, str> {
    if owner.contains('@') {
        fold(owner)
    } else {
        Cow::Borrowed(owner)
    }
}

/// Reads and checks all rows. `open` reopens them for each pass, and `input` is their name in messages.
///
/// # Errors
/// Returns an error if the input as a whole is invalid.
pub fn preflight(
    input: &str,
    mut open: impl FnMut() -> Result<Rows, InputError>,
) -> Result<Preflight, InputError> {
    let too_many = || InputError::too_many_rows(input);
    let mut all = Preflight::default();
    // Which member requests which new email, and which new emails several members request.
    let mut wanted_by: HashMap<KeyId, KeyId> = HashMap::new();
    let mut contested: HashSet<KeyId> = HashSet::new();
    let mut rows = open()?;
    let by_email = matches!(rows, Rows::Csv(_));
    while let Some((_, entry)) = rows.next_entry()? {
        all.rows += 1;
        let row = match entry {
            Entry::Row(row) => row,
            Entry::Bad(bad) => {
                all.bad(bad);
                continue;
            }
        };
        all.trimmed += u64::from(row.trimmed);
        let own = row.key();
        let key = all.keys.intern(&own).ok_or_else(too_many)?;
        if all.uses.add(key, Uses::MEMBER) & Uses::MEMBER != 0 {
            all.relations.repeated.insert(key);
        }
        if by_email && own != *row.email {
            all.uses.add(key, Uses::OTHER_CASE);
        }
        if let Some(new_email) = row.new_email() {
            let new_email = all.keys.intern(&new_email).ok_or_else(too_many)?;
            all.uses.add(new_email, Uses::NEW_EMAIL);
            let old_email = all.keys.intern(&fold(&row.email)).ok_or_else(too_many)?;
            if *wanted_by.entry(new_email).or_insert(key) != key {
                contested.insert(new_email);
            }
            all.relations.rename(key, old_email, new_email);
        }
        if let Some(owner) = row.owner() {
            let owner_key = owner_key(owner);
            let name = all.keys.intern(&owner_key).ok_or_else(too_many)?;
            all.uses.add(name, Uses::OWNER);
            if owner_key != owner {
                all.uses.add(name, Uses::OTHER_CASE);
            }
        }
        if row.archives() {
            all.archived.insert(key);
        }
        all.note_values(&row);
    }
    rows.check_rest()?;
    all.blank_rows = rows.blank_rows();
    drop(wanted_by);
    all.relate(&contested, &mut open)?;

    for id in all.keys.ids() {
        let used = all.uses.of(id);
        if used & Uses::LOOKED_UP != 0 && (by_email || used & Uses::MEMBER != 0) {
            all.lookups += 1;
            // A member that is looked up by id stays the same whatever its email is.
            if by_email
                && (used & Uses::NEW_EMAIL != 0
                    || (used & Uses::OWNER != 0 && all.relations.is_given_up(id)))
            {
                all.contested.push(id);
            }
        }
    }
    // Rows may spell one email in two ways. Whether they target one member must be known before any of them
    // is sent.
    let mixed: Vec<KeyId> = all.spellings().into_keys().collect();
    all.contested.extend(mixed);
    all.contested.sort_unstable();
    all.contested.dedup();
    Ok(all)
}

impl Preflight {
    /// Returns the keys that are looked up: those of the members, of the new owners, and of the new emails.
    pub fn looked_up(&self) -> impl Iterator<Item = KeyId> {
        self.keys
            .ids()
            .filter(|id| self.uses.of(*id) & Uses::LOOKED_UP != 0)
    }

    /// Returns whether rows name a key as a new email only.
    #[must_use]
    pub fn is_new_email_only(&self, key: KeyId) -> bool {
        self.uses.of(key) & Uses::LOOKED_UP == Uses::NEW_EMAIL
    }

    /// Returns whether a row spells a key differently from its stored form.
    #[must_use]
    pub fn is_spelled_otherwise(&self, name: KeyId) -> bool {
        self.uses.of(name) & Uses::OTHER_CASE != 0
    }

    /// Returns the spellings of each email that rows spell in more than one way.
    #[must_use]
    pub fn spellings(&self) -> HashMap<KeyId, Vec<&str>> {
        let mut all = HashMap::new();
        for claims in &self.relations.mixed {
            let mut spellings: Vec<&str> = claims.iter().map(|claim| &*claim.email).collect();
            spellings.sort_unstable();
            spellings.dedup();
            let name = spellings
                .first()
                .and_then(|email| self.keys.find(&fold(email)));
            all.extend(name.map(|name| (name, spellings)));
        }
        all
    }

    /// Returns what the file makes people think twice about, a line each.
    #[must_use]
    pub fn warning_lines(&self) -> Vec<String> {
        let mut lines = self.warnings.lines();
        let rows = |number: u32| count(number.into(), "row");
        if self.stray_companions > 0 {
            lines.push(format!(
                "{} with newOwner, archiveDocuments or archiveScheduledExports, where no member is archived: Sigma documents them only together",
                rows(self.stray_companions)
            ));
        }
        lines
    }

    fn bad(&mut self, bad: BadRow) {
        self.bad_rows += 1;
        if self.bad_examples.len() < BAD_ROWS_KEPT {
            self.bad_examples.push(bad);
        }
    }

    fn note_values(&mut self, row: &Row) {
        let RowRequest::Desired(values) = &row.request else {
            return;
        };
        self.has_types |= values.text(Field::MemberType).is_some();
        let companion = values.text(Field::NewOwner).is_some()
            || values.is_true(Field::ArchiveDocuments)
            || values.is_true(Field::ArchiveScheduledExports);
        if companion && !row.archives() {
            self.stray_companions += 1;
        }
        for (field, value) in values.iter() {
            if let Some(text) = value.as_text()
                && let Some(damage) = damage(field, text)
            {
                self.warnings.add(damage, field, row.line, text);
            }
        }
    }

    /// Runs the further passes, over the rows that are related to others.
    fn relate(
        &mut self,
        contested: &HashSet<KeyId>,
        open: &mut impl FnMut() -> Result<Rows, InputError>,
    ) -> Result<(), InputError> {
        if !self.relations.repeated.is_empty() || !contested.is_empty() {
            let mut claims: HashMap<KeyId, Vec<Claim>> = HashMap::new();
            let mut wanting: HashMap<KeyId, Vec<(u32, u64)>> = HashMap::new();
            self.each_row(open, |all, row| {
                if let Some(key) = all.keys.find(&row.key())
                    && all.relations.repeated.contains(&key)
                {
                    claims.entry(key).or_default().push(Claim::new(row));
                }
                if let Some(email) = row.new_email().and_then(|email| all.keys.find(&email))
                    && contested.contains(&email)
                {
                    wanting
                        .entry(email)
                        .or_default()
                        .push((row.number, row.line));
                }
            })?;
            for claims in claims.into_values() {
                self.relations.compare(claims);
            }
            for (email, rows) in wanting {
                let email = self.keys.text(email).to_owned();
                self.relations.contested(&email, &rows);
            }
        }
        let cycles = self.relations.order();
        if !cycles.is_empty() {
            let of: HashMap<KeyId, usize> = cycles
                .iter()
                .enumerate()
                .flat_map(|(index, cycle)| cycle.iter().map(move |key| (*key, index)))
                .collect();
            let mut rows: Vec<Vec<(u32, u64)>> = vec![Vec::new(); cycles.len()];
            self.each_row(open, |all, row| {
                if row.new_email().is_some()
                    && let Some(index) = all.keys.find(&row.key()).and_then(|key| of.get(&key))
                    && let Some(rows) = rows.get_mut(*index)
                {
                    rows.push((row.number, row.line));
                }
            })?;
            for rows in rows {
                self.relations.cycle(&rows);
            }
        }
        let problems = &self.relations.problems;
        if !problems.is_empty() {
            self.bad_rows += u32::try_from(problems.len()).unwrap_or(u32::MAX);
            let mut examples = Vec::new();
            self.each_row(open, |all, row| {
                if let Some(problem) = all.relations.problems.get(&row.number)
                    && all.bad_examples.len() + examples.len() < BAD_ROWS_KEPT
                {
                    examples.push(BadRow {
                        number: row.number,
                        line: row.line,
                        email: row.email.clone(),
                        problem: problem.clone(),
                    });
                }
            })?;
            self.bad_examples.extend(examples);
            self.bad_examples.sort_by_key(|bad| bad.number);
        }
        Ok(())
    }

    fn each_row(
        &self,
        open: &mut impl FnMut() -> Result<Rows, InputError>,
        mut with: impl FnMut(&Self, &Row),
    ) -> Result<(), InputError> {
        let mut rows = open()?;
        while let Some((_, entry)) = rows.next_entry()? {
            if let Entry::Row(row) = entry {
                with(self, &row);
            }
        }
        Ok(())
    }
}
