//! Relations between rows: contradicting rows of one member, rows that request the same new email, and
//! renames that have to wait for other renames.
//!
//! All emails refer to the organization as it is when the run starts. A rename to an email that another row's
//! member gives up must come after that other rename. Each member therefore has a *depth*, the number of
//! renames that must come before its own, and rows are emitted in the order of their depth. The renames form
//! a graph with at most one edge from each member, so cycles are found by following the edges.

use std::collections::{HashMap, HashSet};

use super::{KeyId, Row};
use crate::model::{Field, Value, quoted};
use crate::output::line_list;

/// How the rows of the file are related to one another.
#[derive(Debug, Default)]
pub struct Relations {
    /// Problems of rows that are not sent because they conflict with another row, by row number.
    pub problems: HashMap<u32, Box<str>>,
    /// Members that more than one row keys.
    pub repeated: HashSet<KeyId>,
    /// The renames, by the member's current folded email.
    renames: HashMap<KeyId, Rename>,
    /// The number of renames that must come before this member's rows. A missing entry means none.
    depths: HashMap<KeyId, u32>,
    /// The last email of a chain of renames, by the emails at its start. A missing entry means the next email.
    ends: HashMap<KeyId, KeyId>,
    /// Rows that spell one email in more than one way. Only a lookup can tell whether they name the same
    /// member.
    pub mixed: Vec<Vec<Claim>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rename {
    key: KeyId,
    new_email: KeyId,
}

/// What one row requests for one member, for comparison with the other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The row number.
    pub row: u32,
    /// The physical line of the row.
    pub line: u64,
    /// The email as written in the row.
    pub email: Box<str>,
    values: Box<[(Field, Value)]>,
}

impl Claim {
    pub(super) fn new(row: &Row) -> Self {
        Self {
            row: row.number,
            line: row.line,
            email: row.email.clone(),
            values: Field::ALL
                .into_iter()
                .filter_map(|field| Some((field, row.value(field)?.clone())))
                .collect(),
        }
    }

    fn value(&self, field: Field) -> Option<&Value> {
        self.values
            .iter()
            .find(|(other, _)| *other == field)
            .map(|(_, value)| value)
    }
}

impl Relations {
    /// Returns whether several rows name this member.
    #[must_use]
    pub fn is_repeated(&self, key: KeyId) -> bool {
        self.repeated.contains(&key)
    }

    /// Returns how many renames must come before the rows of this member.
    #[must_use]
    pub fn depth(&self, key: KeyId) -> u32 {
        self.depths.get(&key).copied().unwrap_or(0)
    }

    /// Returns the member whose rows must be done before a row that takes `new_email` is sent.
    #[must_use]
    pub fn holder(&self, key: KeyId, new_email: KeyId) -> Option<KeyId> {
        self.renames
            .get(&new_email)
            .map(|rename| rename.key)
            .filter(|holder| *holder != key)
    }

    /// Returns whether a row renames the member that currently has this folded email.
    #[must_use]
    pub fn is_given_up(&self, email: KeyId) -> bool {
        self.renames.contains_key(&email)
    }

    /// Returns the email that must be free so that a member can take `email`: `email` itself if no row renames its holder,
    /// and else the last one of the chain of renames that begins there.
    #[must_use]
    pub fn last_of_chain(&self, email: KeyId) -> KeyId {
        match (self.ends.get(&email), self.renames.get(&email)) {
            (Some(end), _) => *end,
            (None, Some(rename)) => rename.new_email,
            (None, None) => email,
        }
    }

    /// Returns whether any rename has to wait for another one.
    #[must_use]
    pub fn has_depths(&self) -> bool {
        !self.depths.is_empty()
    }

    /// Records that the member `key`, whose email is `old_email`, is renamed.
    pub(super) fn rename(&mut self, key: KeyId, old_email: KeyId, new_email: KeyId) {
        self.renames
            .entry(old_email)
            .or_insert(Rename { key, new_email });
    }

    /// Finds the contradictions between the rows of one member.
    pub(super) fn compare(&mut self, claims: Vec<Claim>) {
        let mut spellings: Vec<&str> = claims.iter().map(|claim| &*claim.email).collect();
        spellings.sort_unstable();
        spellings.dedup();
        let several = spellings.len() > 1;
        for spelling in &spellings {
            let of_one: Vec<&Claim> = claims
                .iter()
                .filter(|claim| &*claim.email == *spelling)
                .collect();
            self.problems.extend(contradictions(&of_one));
        }
        if several {
            self.mixed.push(claims);
        }
    }

    /// Marks all rows that request a new email which several members request.
    pub(super) fn contested(&mut self, email: &str, rows: &[(u32, u64)]) {
        let lines = line_list(rows.len(), rows.iter().map(|(_, line)| *line));
        for (row, _) in rows {
            self.problems.entry(*row).or_insert_with(|| {
                format!("New Email {email} is wanted for several members ({lines}): only one can have it").into()
            });
        }
    }

    /// Follows the renames, sets the depth of each member, and returns each cycle as a list of its members'
    /// keys.
    pub(super) fn order(&mut self) -> Vec<Vec<KeyId>> {
        let mut cycles = Vec::new();
        // `None` marks a member on the path that is being followed: its depth is not known yet.
        let mut depths: HashMap<KeyId, Option<u32>> = HashMap::new();
        for start in self.renames.keys() {
            let mut way = Vec::new();
            let mut email = *start;
            let mut end = email;
            // The depth of the member after the last one on the path, if there is one.
            let mut depth = loop {
                match depths.get(&email) {
                    Some(Some(depth)) => {
                        end = self.last_of_chain(email);
                        break Some(*depth);
                    }
                    Some(None) => {
                        let cycle: Vec<KeyId> = way
                            .iter()
                            .copied()
                            .skip_while(|other| *other != email)
                            .collect();
                        if cycle.len() > 1 {
                            cycles.push(cycle);
                        }
                        break Some(0);
                    }
                    None => {}
                }
                let Some(rename) = self.renames.get(&email) else {
                    break None;
                };
                depths.insert(email, None);
                way.push(email);
                // A change of case only does not wait for another rename.
                if rename.new_email == email {
                    break None;
                }
                email = rename.new_email;
                end = email;
            };
            for email in way.into_iter().rev() {
                if self
                    .renames
                    .get(&email)
                    .is_some_and(|rename| rename.new_email != end)
                {
                    self.ends.insert(email, end);
                }
                let own = depth.map_or(0, |below| below + 1);
                depths.insert(email, Some(own));
                depth = Some(own);
            }
        }
        self.depths = depths
            .into_iter()
            .filter_map(|(email, depth)| {
                let depth = depth.filter(|depth| *depth > 0)?;
                Some((self.renames.get(&email)?.key, depth))
            })
            .collect();
        cycles
            .into_iter()
            .map(|cycle| {
                cycle
                    .iter()
                    .filter_map(|email| self.renames.get(email).map(|rename| rename.key))
                    .collect()
            })
            .collect()
    }

    /// Marks the rows of a cycle of renames as problems.
    pub(super) fn cycle(&mut self, rows: &[(u32, u64)]) {
        let lines = line_list(rows.len(), rows.iter().map(|(_, line)| *line));
        for (row, _) in rows {
            self.problems.entry(*row).or_insert_with(|| {
                format!(
                    "these renames form a circle ({lines}): none can go first; give one member a spare email in a run before"
                )
                .into()
            });
        }
    }
}

/// Returns the rows among `claims`, all of one member, that give one field different values.
pub(crate) fn contradictions(claims: &[&Claim]) -> Vec<(u32, Box<str>)> {
    let mut found = Vec::new();
    if claims.len() < 2 {
        return found;
    }
    for field in Field::ALL {
        let with: Vec<(&Claim, &Value)> = claims
            .iter()
            .filter_map(|claim| Some((*claim, claim.value(field)?)))
            .collect();
        let Some((_, first)) = with.first() else {
            continue;
        };
        if with
            .iter()
            .all(|(_, value)| field.matches(Some(value), first))
        {
            continue;
        }
        let lines = line_list(with.len(), with.iter().map(|(claim, _)| claim.line));
        for (claim, value) in &with {
            found.push((
                claim.row,
                format!(
                    "{} is {} here and something else in another row of this member ({lines}): keep one",
                    field.column(),
                    quoted(&value.to_string()),
                )
                .into(),
            ));
        }
    }
    found
}
