//! The whole file, read and checked before anything is sent.
//!
//! One pass collects the keys and what each row says by itself. Only if rows have to do with one another is there
//! a second pass, over the rows that do, so that memory goes with the keys and not with the cells.

use std::collections::{HashMap, HashSet};

use super::relations::{Claim, Relations};
use super::{Ask, BadRow, Entry, InputError, NameId, Names, Row, Rows};
use crate::change::{Field, fold};

/// Wrong rows are kept for `--strict`'s message; more than this nobody reads.
const BAD_ROWS_KEPT: usize = 20;

/// What the whole file says.
#[derive(Debug, Default)]
pub struct Preflight {
    /// How many rows there are.
    pub rows: u32,
    /// The keys of members and of new owners.
    pub names: Names,
    /// What the rows have to do with one another.
    pub relations: Relations,
    /// Cells that had white space around them.
    pub trimmed: u64,
    /// Rows that can't be sent as they stand.
    pub bad_rows: u32,
    /// The first of them.
    pub bad_examples: Vec<BadRow>,
    /// How many members are to be looked up: those that rows name, and new owners.
    pub lookups: usize,
    /// Folded emails that rows name and that the run itself gives or takes away: in them a look-up during the
    /// run could see a rename.
    pub contested: Vec<NameId>,
    /// Whether rows ask for account types.
    pub has_types: bool,
    uses: Uses,
    /// Rows that ask for a new owner or for documents to be archived without archiving the member.
    pub stray_companions: u32,
}

/// How a key is used, one byte each.
#[derive(Debug, Default)]
struct Uses(Vec<u8>);

impl Uses {
    /// A row's member.
    const MEMBER: u8 = 1;
    /// A new owner.
    const OWNER: u8 = 2;
    /// A new email.
    const NEW_EMAIL: u8 = 4;
    /// A row spells it otherwise than it is kept.
    const OTHER_CASE: u8 = 8;

    fn add(&mut self, id: NameId, r#use: u8) -> u8 {
        if self.0.len() <= id.index() {
            self.0.resize(id.index() + 1, 0);
        }
        self.0.get_mut(id.index()).map_or(0, |uses| {
            let before = *uses;
            *uses |= r#use;
            before
        })
    }

    fn of(&self, id: NameId) -> u8 {
        self.0.get(id.index()).copied().unwrap_or(0)
    }
}

/// Reads all rows. `open` opens them anew for each pass; `input` is how messages call them.
///
/// # Errors
/// If the input is wrong as a whole.
pub fn preflight(
    input: &str,
    mut open: impl FnMut() -> Result<Rows, InputError>,
) -> Result<Preflight, InputError> {
    let too_many = || InputError::TooManyRows {
        input: input.to_owned(),
    };
    let mut all = Preflight::default();
    // Who wants which new email; and those that several members want.
    let mut wanted_by: HashMap<NameId, NameId> = HashMap::new();
    let mut contested: HashSet<NameId> = HashSet::new();
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
        let key = all.names.intern(&own).ok_or_else(too_many)?;
        if all.uses.add(key, Uses::MEMBER) & Uses::MEMBER != 0 {
            all.relations.repeated.insert(key);
        }
        if by_email && own != *row.email {
            all.uses.add(key, Uses::OTHER_CASE);
        }
        if let Some(new_email) = row.new_email() {
            let new_email = all.names.intern(&new_email).ok_or_else(too_many)?;
            all.uses.add(new_email, Uses::NEW_EMAIL);
            let old_email = all.names.intern(&fold(&row.email)).ok_or_else(too_many)?;
            if *wanted_by.entry(new_email).or_insert(key) != key {
                contested.insert(new_email);
            }
            all.relations.rename(key, old_email, new_email);
        }
        if let Some(owner) = row.owner_email() {
            let folded = fold(owner);
            let name = all.names.intern(&folded).ok_or_else(too_many)?;
            all.uses.add(name, Uses::OWNER);
            if folded != owner {
                all.uses.add(name, Uses::OTHER_CASE);
            }
        }
        all.note_values(&row);
    }
    rows.check_rest()?;
    drop(wanted_by);
    all.relate(&contested, &mut open)?;

    for id in all.names.ids() {
        let used = all.uses.of(id);
        if used & (Uses::MEMBER | Uses::OWNER) != 0 {
            all.lookups += 1;
            // A member looked up by id is the same whatever its email is.
            if by_email
                && (used & Uses::NEW_EMAIL != 0
                    || (used & Uses::OWNER != 0 && all.relations.is_given_up(id)))
            {
                all.contested.push(id);
            }
        }
    }
    // Whether rows that spell one email in two ways mean one member must be known before any is sent.
    let mixed: Vec<NameId> = all.spellings().into_keys().collect();
    all.contested.extend(mixed);
    all.contested.sort_unstable();
    all.contested.dedup();
    Ok(all)
}

impl Preflight {
    /// The names of members and of new owners.
    pub fn members(&self) -> impl Iterator<Item = NameId> {
        self.names
            .ids()
            .filter(|id| self.uses.of(*id) & (Uses::MEMBER | Uses::OWNER) != 0)
    }

    /// Whether a row spells a name otherwise than it is kept.
    #[must_use]
    pub fn is_spelled_otherwise(&self, name: NameId) -> bool {
        self.uses.of(name) & Uses::OTHER_CASE != 0
    }

    /// The spellings of the emails that rows spell in more than one way.
    #[must_use]
    pub fn spellings(&self) -> HashMap<NameId, Vec<&str>> {
        let mut all = HashMap::new();
        for claims in &self.relations.mixed {
            let mut spellings: Vec<&str> = claims.iter().map(|claim| &*claim.email).collect();
            spellings.sort_unstable();
            spellings.dedup();
            let name = spellings
                .first()
                .and_then(|email| self.names.find(&fold(email)));
            all.extend(name.map(|name| (name, spellings)));
        }
        all
    }

    fn bad(&mut self, bad: BadRow) {
        self.bad_rows += 1;
        if self.bad_examples.len() < BAD_ROWS_KEPT {
            self.bad_examples.push(bad);
        }
    }

    fn note_values(&mut self, row: &Row) {
        let Ask::Wanted(values) = &row.ask else {
            return;
        };
        self.has_types |= values.text(Field::MemberType).is_some();
        let companion = values.text(Field::NewOwner).is_some()
            || values.is_true(Field::ArchiveDocuments)
            || values.is_true(Field::ArchiveScheduledExports);
        if companion && !values.is_true(Field::IsArchived) && !values.is_true(Field::IsInactive) {
            self.stray_companions += 1;
        }
    }

    /// The second pass, over the rows that have to do with others.
    fn relate(
        &mut self,
        contested: &HashSet<NameId>,
        open: &mut impl FnMut() -> Result<Rows, InputError>,
    ) -> Result<(), InputError> {
        if !self.relations.repeated.is_empty() || !contested.is_empty() {
            let mut claims: HashMap<NameId, Vec<Claim>> = HashMap::new();
            let mut wanting: HashMap<NameId, Vec<(u32, u64)>> = HashMap::new();
            self.each_row(open, |all, row| {
                if let Some(key) = all.names.find(&row.key())
                    && all.relations.repeated.contains(&key)
                {
                    claims.entry(key).or_default().push(Claim::new(row));
                }
                if let Some(email) = row.new_email().and_then(|email| all.names.find(&email))
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
                let email = self.names.text(email).to_owned();
                self.relations.contested(&email, &rows);
            }
        }
        let cycles = self.relations.order();
        if !cycles.is_empty() {
            let of: HashMap<NameId, usize> = cycles
                .iter()
                .enumerate()
                .flat_map(|(index, cycle)| cycle.iter().map(move |key| (*key, index)))
                .collect();
            let mut rows: Vec<Vec<(u32, u64)>> = vec![Vec::new(); cycles.len()];
            self.each_row(open, |all, row| {
                if row.new_email().is_some()
                    && let Some(index) = all.names.find(&row.key()).and_then(|key| of.get(&key))
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
