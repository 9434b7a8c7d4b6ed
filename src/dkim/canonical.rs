//! The relaxed canonical forms of RFC 6376 §3.4.2 and §3.4.4, the body's piece by piece.

use aws_lc_rs::digest;

/// Canonical octets gathered before they are hashed.
const BUFFER: usize = 8 * 1024;

const fn is_wsp(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// Appends a field in relaxed form, without a line end: name in lower case, value unfolded, blanks reduced.
///
/// Only blank and tab are blanks: a form feed is text, as every other control character (RFC 6376 §2.8).
pub fn relaxed_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
    out.push(b':');
    let begin = out.len();
    let mut blank = false;
    let mut rest = value;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        match b {
            b'\r' if tail.first() == Some(&b'\n') => rest = tail.get(1..).unwrap_or_default(),
            b if is_wsp(b) => blank = true,
            b => {
                if blank && out.len() > begin {
                    out.push(b' ');
                }
                blank = false;
                out.push(b);
            }
        }
    }
}

/// Hashes a body in relaxed form, in pieces of any size.
#[derive(Clone)]
pub struct BodyHash {
    hash: digest::Context,
    out: Vec<u8>,
    /// Line ends that are written when something follows them.
    line_ends: u64,
    /// Blanks that are written when something follows them on the line.
    blank: bool,
    /// A CR that may be half of a line end.
    cr: bool,
    /// Something other than empty lines was seen.
    any: bool,
}

impl Default for BodyHash {
    fn default() -> Self {
        Self {
            hash: digest::Context::new(&digest::SHA256),
            out: Vec::with_capacity(BUFFER + 4),
            line_ends: 0,
            blank: false,
            cr: false,
            any: false,
        }
    }
}

impl BodyHash {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        for &b in piece {
            if self.cr {
                self.cr = false;
                if b == b'\n' {
                    self.blank = false;
                    self.line_ends += 1;
                    continue;
                }
                self.text(b'\r');
            }
            match b {
                b'\r' => self.cr = true,
                b if is_wsp(b) => self.blank = true,
                b => self.text(b),
            }
        }
    }

    /// SHA-256 of the canonical body: no empty lines at its end, one line end after the last line that is not
    /// empty, nothing at all when there is none.
    pub fn finish(mut self) -> [u8; 32] {
        if self.cr {
            self.text(b'\r');
        }
        if self.any {
            self.out.extend_from_slice(b"\r\n");
        }
        self.hash.update(&self.out);
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.finish().as_ref());
        hash
    }

    fn text(&mut self, b: u8) {
        self.any = true;
        while self.line_ends > 0 {
            self.line_ends -= 1;
            self.out.extend_from_slice(b"\r\n");
            self.drain();
        }
        if std::mem::take(&mut self.blank) {
            self.out.push(b' ');
        }
        self.out.push(b);
        self.drain();
    }

    fn drain(&mut self) {
        if self.out.len() >= BUFFER {
            self.hash.update(&self.out);
            self.out.clear();
        }
    }
}

/// How much of the end of a body is blank lines, seen from the end. The lines are worth removing only where one
/// of them is not empty: some verifiers reckon those wrongly (SIG-10), empty ones never count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BlankEnd {
    /// Octets that are blanks or line ends, from the end on.
    octets: u64,
    /// Those of them behind the line end that comes first in the text.
    lines: u64,
    /// A blank or tab is among `lines`.
    worth: bool,
    /// A blank or tab is among `octets`.
    pending: bool,
}

impl BlankEnd {
    /// Takes the piece before the last one taken; `false` when the text has begun and no further piece matters.
    pub fn before(&mut self, piece: &[u8]) -> bool {
        for &b in piece.iter().rev() {
            match b {
                b'\r' | b'\n' | b' ' | b'\t' => {}
                _ => return false,
            }
            if b == b'\n' {
                // Everything behind this line end is blank.
                self.lines = self.octets;
                self.worth = self.pending;
            }
            self.pending |= is_wsp(b);
            self.octets += 1;
        }
        true
    }

    /// The octets to remove from the end; `all` says that the body is nothing but blanks and line ends.
    pub const fn surplus(&self, all: bool) -> u64 {
        if all {
            if self.pending { self.octets } else { 0 }
        } else if self.worth {
            self.lines
        } else {
            0
        }
    }
}
