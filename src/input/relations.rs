//! Rows against one another: rows of one member that contradict, rows that want one email, and renames that wait
//! for other renames.
//!
//! All emails mean the organization as it stands when the run starts. A rename to an email that another row's
//! member gives up must come after that row's; so each member has a *depth*, the number of renames before its own,
//! and rows are emitted by depth. Among members this is a graph with at most one arrow from each, so that its
//! cycles are found by following arrows.

use std::collections::{HashMap, HashSet};

use super::{NameId, Row};
use crate::change::{Field, Value};

/// At most so many lines are named in one message.
const LINES_SHOWN: usize = 10;

/// What the rows of the file have to do with one another.
#[derive(Debug, Default)]
pub struct Relations {
    /// Rows that can't be sent because of another row, by number.
    pub problems: HashMap<u32, Box<str>>,
    /// Members named by more than one row.
    pub repeated: HashSet<NameId>,
    /// For the folded email of each member that a row renames: who that is, and to what.
    renames: HashMap<NameId, Rename>,
    /// How many renames come before this member's rows; absent means none.
    depths: HashMap<NameId, u32>,
    /// Rows of members whose email is spelled in more than one way: whether they are one member is known only
    /// when they have been looked up.
    pub mixed: Vec<Vec<Claim>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rename {
    key: NameId,
    new_email: NameId,
}

/// What one row wants of one member, for comparison with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The row.
    pub row: u32,
    /// Its line.
    pub line: u64,
    /// The email as the row spells it.
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
                .filter_map(|field| Some((field, row.wants(field)?.clone())))
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
    /// How many renames must come before the rows of this member.
    #[must_use]
    pub fn depth(&self, key: NameId) -> u32 {
        self.depths.get(&key).copied().unwrap_or(0)
    }

    /// The member whose rows must have ended before one that takes `new_email` goes out.
    #[must_use]
    pub fn holder(&self, key: NameId, new_email: NameId) -> Option<NameId> {
        self.renames
            .get(&new_email)
            .map(|rename| rename.key)
            .filter(|holder| *holder != key)
    }

    /// Whether some row renames the member who holds this folded email.
    #[must_use]
    pub fn is_given_up(&self, email: NameId) -> bool {
        self.renames.contains_key(&email)
    }

    /// Whether there are renames that wait for others.
    #[must_use]
    pub fn has_depths(&self) -> bool {
        !self.depths.is_empty()
    }

    /// Notes that `key`, who holds `old_email`, is renamed.
    pub(super) fn rename(&mut self, key: NameId, old_email: NameId, new_email: NameId) {
        self.renames
            .entry(old_email)
            .or_insert(Rename { key, new_email });
    }

    /// Finds what contradicts in the rows of one member.
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

    /// Marks all rows that want one email that several members want.
    pub(super) fn contested(&mut self, email: &str, rows: &[(u32, u64)]) {
        let lines = lines(rows.iter().map(|(_, line)| *line));
        for (row, _) in rows {
            self.problems.entry(*row).or_insert_with(|| {
                format!("New Email {email} is wanted for several members ({lines}): only one can have it").into()
            });
        }
    }

    /// Follows the renames: gives each member its depth, and answers the cycles as the keys in them.
    pub(super) fn order(&mut self) -> Vec<Vec<NameId>> {
        let mut cycles = Vec::new();
        // The depth of a member that is on the way being followed is not known yet: `None`.
        let mut depths: HashMap<NameId, Option<u32>> = HashMap::new();
        for start in self.renames.keys() {
            let mut way = Vec::new();
            let mut email = *start;
            // The depth below the last one of the way.
            let mut depth = loop {
                match depths.get(&email) {
                    Some(Some(depth)) => break Some(*depth),
                    Some(None) => {
                        let cycle: Vec<NameId> = way
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
                // A change of the email's case alone waits for nobody.
                if rename.new_email == email {
                    break None;
                }
                email = rename.new_email;
            };
            for email in way.into_iter().rev() {
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

    /// Marks the rows of a cycle of renames.
    pub(super) fn cycle(&mut self, rows: &[(u32, u64)]) {
        let lines = lines(rows.iter().map(|(_, line)| *line));
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

/// The rows among `claims`, all of one member, that give one field different values.
#[must_use]
pub fn contradictions(claims: &[&Claim]) -> Vec<(u32, Box<str>)> {
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
            .all(|(_, value)| field.bears(Some(value), first))
        {
            continue;
        }
        let lines = lines(with.iter().map(|(claim, _)| claim.line));
        for (claim, value) in &with {
            found.push((
                claim.row,
                format!(
                    "{} is \"{value}\" here and something else in another row of this member ({lines}): keep one",
                    field.column(),
                )
                .into(),
            ));
        }
    }
    found
}

/// `lines 3, 9 and 12`, cut after some.
fn lines(lines: impl ExactSizeIterator<Item = u64>) -> String {
    let count = lines.len();
    let mut shown: Vec<String> = lines
        .take(LINES_SHOWN)
        .map(|line| line.to_string())
        .collect();
    if count > LINES_SHOWN {
        return format!(
            "lines {} and {} more",
            shown.join(", "),
            count - LINES_SHOWN
        );
    }
    match shown.pop() {
        Some(last) if !shown.is_empty() => format!("lines {} and {last}", shown.join(", ")),
        Some(last) => format!("line {last}"),
        None => String::new(),
    }
}
