//! The TOML text as a tree with positions, and the reader that takes it apart key by key.
//!
//! Every error is collected, none ends the reading. A derived deserialiser would stop at the first, so the
//! tree is walked by hand; a key that nobody asked for is an unknown key ([`Section::finish`]).

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The key's path, as in `submission.user[2].name`; empty when the text is not TOML.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.wrong)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

/// What is wrong with a value, and what would be right: an error without its place.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) wrong: String,
    pub(super) right: String,
}

impl Wrong {
    pub(super) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
    }
}

/// The document that errors are reported against.
pub(super) struct Document<'t> {
    text: &'t str,
    file: &'t Path,
    errors: RefCell<Vec<(usize, ConfigError)>>,
}

impl<'t> Document<'t> {
    pub(super) const fn new(text: &'t str, file: &'t Path) -> Self {
        Self { text, file, errors: RefCell::new(Vec::new()) }
    }

    pub(super) fn report(&self, at: usize, key: &str, wrong: Wrong) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let error = ConfigError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(start..).map_or(0, |l| l.chars().count()) + 1,
            key: key.to_owned(),
            wrong: wrong.wrong,
            right: wrong.right,
        };
        self.errors.borrow_mut().push((at, error));
    }

    /// The errors so far, in the order of the file.
    pub(super) fn errors(&self) -> Vec<ConfigError> {
        let mut all = self.errors.borrow().clone();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, e)| e).collect()
    }
}

/// A table of the document; one that was not written is empty.
pub(super) struct Section<'a> {
    doc: &'a Document<'a>,
    path: String,
    table: Option<&'a DeTable<'a>>,
    at: usize,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) const fn root(doc: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        Self { doc, path: String::new(), table: Some(table), at: 0, known: RefCell::new(Vec::new()) }
    }

    /// Whether the operator wrote the section.
    pub(super) const fn written(&self) -> bool {
        self.table.is_some()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn entry(&self, key: &'static str) -> Option<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.known.borrow_mut().push(key);
        self.table?.iter().find(|(k, _)| k.get_ref() == key)
    }

    /// The value of `key`, when it was written.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        let (_, value) = self.entry(key)?;
        Some(Field { doc: self.doc, path: self.path_of(key), span: value.span(), value: value.get_ref() })
    }

    /// Whether `key` was written, right or wrong.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.table.is_some_and(|t| t.iter().any(|(k, _)| k.get_ref() == key))
    }

    /// The value of `key` as `read` understands it; `default` when it was not written or is wrong.
    pub(super) fn get<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
    ) -> T {
        self.opt(key, read).unwrap_or(default)
    }

    /// The value of `key` as `read` understands it; `None` when it was not written or is wrong.
    pub(super) fn opt<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let field = self.field(key)?;
        read(&field).map_err(|w| field.report(w)).ok()
    }

    /// The value of `key`, which must be written.
    pub(super) fn need<T>(
        &self,
        key: &'static str,
        right: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        if self.has(key) {
            return self.opt(key, read);
        }
        self.known.borrow_mut().push(key);
        self.doc.report(self.at, &self.path_of(key), Wrong::new("is missing", right));
        None
    }

    /// The table under `key`.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        let found = self.field(key).and_then(|f| {
            let table = f.value.as_table();
            if table.is_none() {
                f.report(Wrong::new(f.found(), format!("write a section, [{path}]")));
            }
            table.map(|t| (t, f.span.start))
        });
        Self {
            doc: self.doc,
            path,
            table: found.map(|(t, _)| t),
            at: found.map_or(self.at, |(_, at)| at),
            known: RefCell::new(Vec::new()),
        }
    }

    /// The tables of the array under `key`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let right = || format!("write [[{}]] above each entry", field.path);
        let Some(array) = field.value.as_array() else {
            field.report(Wrong::new(field.found(), right()));
            return Vec::new();
        };
        let mut out = Vec::new();
        for (i, item) in array.iter().enumerate() {
            let item = field.item(i, item);
            match item.value.as_table() {
                Some(table) => out.push(Self {
                    doc: self.doc,
                    path: item.path,
                    table: Some(table),
                    at: item.span.start,
                    known: RefCell::new(Vec::new()),
                }),
                None => item.report(Wrong::new(item.found(), right())),
            }
        }
        out
    }

    /// All keys of a table whose keys are the operator's.
    pub(super) fn entries(&self) -> Vec<(String, Field<'a>)> {
        let Some(table) = self.table else { return Vec::new() };
        table
            .iter()
            .map(|(k, v)| {
                let key = k.get_ref().to_string();
                let field =
                    Field { doc: self.doc, path: self.path_of(&key), span: v.span(), value: v.get_ref() };
                (key, field)
            })
            .collect()
    }

    /// Reports at the section itself, or at one of its keys when that was written.
    pub(super) fn report(&self, key: &str, wrong: Wrong) {
        let at = self.table.and_then(|t| t.iter().find(|(k, _)| k.get_ref() == key));
        self.doc.report(at.map_or(self.at, |(_, v)| v.span().start), &self.path_of(key), wrong);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table.into_iter().flatten() {
            if known.iter().any(|k| key.get_ref() == k) {
                continue;
            }
            let name = key.get_ref().as_ref();
            let near = known.iter().map(|k| (distance(name, k), *k)).min().filter(|(d, _)| *d <= 2);
            let right = near.map_or_else(
                || format!("the keys here are {}", known.join(", ")),
                |(_, k)| format!("is \"{k}\" meant?"),
            );
            self.doc.report(key.span().start, &self.path_of(name), Wrong::new("unknown key", right));
        }
    }
}

/// One value of the document.
pub(super) struct Field<'a> {
    doc: &'a Document<'a>,
    pub(super) path: String,
    span: Range<usize>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn report(&self, wrong: Wrong) {
        self.doc.report(self.span.start, &self.path, wrong);
    }

    fn found(&self) -> String {
        format!("found {}", article(self.value.type_str()))
    }

    fn item(&self, i: usize, value: &'a Spanned<DeValue<'a>>) -> Self {
        Field {
            doc: self.doc,
            path: format!("{}[{}]", self.path, i + 1),
            span: value.span(),
            value: value.get_ref(),
        }
    }

    pub(super) fn string(&self) -> Result<&'a str, Wrong> {
        self.value.as_str().ok_or_else(|| Wrong::new(self.found(), "write a string in quotes"))
    }

    pub(super) fn boolean(&self) -> Result<bool, Wrong> {
        self.value.as_bool().ok_or_else(|| Wrong::new(self.found(), "write true or false"))
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Result<u64, Wrong> {
        let right = || format!("write a whole number from {} to {}", range.start(), range.end());
        let int = self.value.as_integer().ok_or_else(|| Wrong::new(self.found(), right()))?;
        i128::from_str_radix(int.as_str(), int.radix())
            .ok()
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| range.contains(n))
            .ok_or_else(|| Wrong::new(format!("{} is out of range", int.as_str()), right()))
    }

    /// The elements of an array, each read by `read`; errors are reported at the element.
    pub(super) fn list<T>(&self, read: impl Fn(&Self) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
        let array =
            self.value.as_array().ok_or_else(|| Wrong::new(self.found(), "write a list, as in [\"…\"]"))?;
        let mut out = Vec::new();
        for (i, item) in array.iter().enumerate() {
            let item = self.item(i, item);
            match read(&item) {
                Ok(v) => out.push(v),
                Err(w) => item.report(w),
            }
        }
        Ok(out)
    }

    /// The value as a table of its own, when it is one.
    pub(super) fn as_section(&self) -> Option<Section<'a>> {
        let table = self.value.as_table()?;
        Some(Section {
            doc: self.doc,
            path: self.path.clone(),
            table: Some(table),
            at: self.span.start,
            known: RefCell::new(Vec::new()),
        })
    }
}

fn article(kind: &str) -> String {
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// Edits between two short words, for the hint at an unknown key.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate().take(64) {
        let mut previous = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            left = (left + 1).min(above + 1).min(previous + usize::from(ca != *cb));
            previous = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, want) in
            [("retry", "retry", 0), ("rety", "retry", 1), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
