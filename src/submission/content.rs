//! Content on its way in: small in memory, large in an unlinked temporary file (LIM-02, DUR-02).
//!
//! [`Spool`] takes what arrives; [`Spool::finish`] turns it into a [`Received`], whose header section is always
//! in memory, so that it can be replaced without copying the rest; [`Spooled`] is what the store reads.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::dkim::Signers;
use crate::dkim::canonical::BlankEnd;
use crate::mail::Domain;
use crate::queue::{CONTENT_PART, ContentSource};
use crate::smtp::data::Scan;

/// Octets kept in memory of any content, the header section apart, which is kept whole. With what one read adds
/// to it, and with the other buffers of a connection, below what a connection may occupy (LIM-02).
const HEAD: usize = 112 * 1024;
/// Octets gathered before they go to the file.
const CHUNK: usize = 48 * 1024;

/// Content that is still coming in.
#[derive(Debug, Default)]
pub struct Spool {
    head: Vec<u8>,
    tail: Vec<u8>,
    file: Option<File>,
    filed: u64,
}

impl Spool {
    /// Where the next octets are to be appended; never more than [`Spool::must_flush`] allows. `in_header`: the
    /// header section has not ended.
    pub const fn sink(&mut self, in_header: bool) -> &mut Vec<u8> {
        if self.head.len() < HEAD || in_header { &mut self.head } else { &mut self.tail }
    }

    /// Whether [`Spool::flush`] is due before more is appended.
    pub const fn must_flush(&self) -> bool {
        self.tail.len() >= CHUNK
    }

    /// Whether there is no file and none is due.
    pub const fn is_small(&self) -> bool {
        self.file.is_none() && !self.must_flush()
    }

    /// Writes what waits to the file, which is made in `dir` when it is first needed. Blocks.
    ///
    /// # Errors
    /// Of the file system.
    pub fn flush(&mut self, dir: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(dir)?),
        };
        file.write_all(&self.tail)?;
        self.filed += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// The complete content, with what the receiver saw of it. Blocks where a file is in use.
    ///
    /// # Errors
    /// Of the file system.
    pub fn finish(mut self, scan: Scan, dir: &Path) -> io::Result<Received> {
        if self.file.is_some() && !self.tail.is_empty() {
            self.flush(dir)?;
        } else if self.file.is_none() {
            // Less than one chunk over: not worth a file.
            self.head.append(&mut self.tail);
        }
        let tail = self.file.map(|file| (Arc::new(file), self.filed));
        Ok(Received { head: self.head, tail, scan })
    }
}

/// Complete content, as the client sent it.
#[derive(Debug)]
pub struct Received {
    /// The first part, the whole header section included; everything, where `tail` is `None`.
    pub head: Vec<u8>,
    /// The rest, and its octets.
    pub tail: Option<(Arc<File>, u64)>,
    /// What was seen of it.
    pub scan: Scan,
}

impl Received {
    /// Content that lies in memory, as other ways in than SMTP have it, its lines ended by CRLF.
    pub const fn in_memory(content: Vec<u8>, scan: Scan) -> Self {
        Self { head: content, tail: None, scan }
    }

    /// The header section, with the empty line after it if there is one.
    pub fn header(&self) -> &[u8] {
        self.head.get(..self.header_len()).unwrap_or(&self.head)
    }

    fn header_len(&self) -> usize {
        usize::try_from(self.scan.header).unwrap_or(usize::MAX).min(self.head.len())
    }

    /// The content with another header section.
    pub fn with_header(self, mut header: Vec<u8>) -> Spooled {
        header.extend_from_slice(self.head.get(self.header_len()..).unwrap_or_default());
        Spooled { head: header.into(), tail: self.tail }
    }
}

/// Content as it is stored and sent.
#[derive(Debug, Clone)]
pub struct Spooled {
    head: Bytes,
    tail: Option<(Arc<File>, u64)>,
}

impl Spooled {
    /// All of it in memory. Blocks.
    ///
    /// # Errors
    /// Of the file system.
    pub fn load(&self) -> io::Result<Vec<u8>> {
        let mut all = self.head.to_vec();
        if let Some((file, len)) = &self.tail {
            let start = all.len();
            all.resize(start + usize::try_from(*len).map_err(io::Error::other)?, 0);
            file.read_exact_at(all.get_mut(start..).unwrap_or_default(), 0)?;
        }
        Ok(all)
    }

    /// The content with DKIM-Signature fields on top, and the domain that signed; as it is, and `None`, without a key for
    /// it. Blank lines at the end of the body go, where some verifiers would reckon them wrongly (SIG-10). Blocks where
    /// a file is in use.
    ///
    /// # Errors
    /// Of the file system.
    pub fn signed(self, signers: &Signers, now: Timestamp) -> io::Result<(Self, Option<Domain>)> {
        let header = self.head.slice(..header_len(&self.head));
        let Some(mut signing) = signers.start(&header) else { return Ok((self, None)) };
        let mut content = self;
        content.drop_blank_end(header.len() as u64)?;
        let (mut at, mut buf) = (header.len() as u64, vec![0; CHUNK]);
        loop {
            let n = content.read_at(at, &mut buf)?;
            if n == 0 {
                break;
            }
            signing.body(buf.get(..n).unwrap_or_default());
            at += n as u64;
        }
        let domain = signing.domain().clone();
        content.head = [signing.finish(now).as_slice(), &content.head].concat().into();
        Ok((content, Some(domain)))
    }

    /// Cuts off what [`BlankEnd`] calls surplus, of the body that begins at `body`.
    fn drop_blank_end(&mut self, body: u64) -> io::Result<()> {
        let (mut end, mut blank) = (self.len(), BlankEnd::default());
        let mut buf = vec![0; CHUNK];
        let all = loop {
            let begin = end.saturating_sub(CHUNK as u64).max(body);
            if begin == end {
                break true;
            }
            let piece = buf.get_mut(..usize::try_from(end - begin).unwrap_or(CHUNK)).unwrap_or_default();
            self.read_exact_at(begin, piece)?;
            if !blank.before(piece) {
                break false;
            }
            end = begin;
        };
        let mut surplus = blank.surplus(all);
        if let Some((_, len)) = &mut self.tail {
            let of_file = surplus.min(*len);
            *len -= of_file;
            surplus -= of_file;
        }
        self.head.truncate(self.head.len().saturating_sub(usize::try_from(surplus).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset + done as u64, rest)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }

    /// Content from memory, into a file in `dir` where it is large; the header section stays in memory. Blocks.
    ///
    /// # Errors
    /// Of the file system.
    pub fn store(mut content: Vec<u8>, dir: &Path) -> io::Result<Self> {
        if content.len() <= CONTENT_PART {
            return Ok(Self { head: content.into(), tail: None });
        }
        let rest = content.split_off(header_len(&content).max(CONTENT_PART));
        let mut file = tempfile::tempfile_in(dir)?;
        file.write_all(&rest)?;
        Ok(Self { head: content.into(), tail: Some((Arc::new(file), rest.len() as u64)) })
    }
}

/// The octets of the header section and the empty line after it.
fn header_len(content: &[u8]) -> usize {
    content.windows(4).position(|w| w == b"\r\n\r\n").map_or(content.len(), |i| i + 4)
}

impl ContentSource for Spooled {
    fn len(&self) -> u64 {
        self.head.len() as u64 + self.tail.as_ref().map_or(0, |(_, len)| *len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = self.head.read_at(offset, buf)?;
        let head = self.head.len() as u64;
        while let (Some((file, len)), Some(rest)) = (&self.tail, buf.get_mut(done..)) {
            let at = (offset + done as u64).saturating_sub(head);
            let wanted = rest.len().min(usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX));
            match file.read_at(rest.get_mut(..wanted).unwrap_or_default(), at)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn in_memory(&self) -> Option<Bytes> {
        self.tail.is_none().then(|| self.head.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(content: &[u8], piece: usize, dir: &Path) -> Received {
        let mut spool = Spool::default();
        for chunk in content.chunks(piece) {
            spool.sink(false).extend_from_slice(chunk);
            if spool.must_flush() {
                spool.flush(dir).unwrap();
            }
        }
        let scan = Scan { size: content.len() as u64, header: 8, ..Scan::default() };
        spool.finish(scan, dir).unwrap()
    }

    // SIG-08, SIG-10
    #[test]
    fn what_is_signed_is_what_is_stored_whatever_its_size() {
        use crate::dkim::{Algorithm, SigningKey, keygen};
        let dir = tempfile::tempdir().unwrap();
        let domain = Domain::parse("example.net").unwrap();
        let pem = keygen::generate(Algorithm::Ed25519).unwrap();
        let key = SigningKey::from_pem(domain.clone(), "s1".to_owned(), &pem).unwrap();
        let (signers, now) = (Signers::new(vec![key]), Timestamp::from_millis(1_795_333_080_000));
        for size in [0, 10, CONTENT_PART, CONTENT_PART + CHUNK, 3 * CONTENT_PART + 17] {
            for end in ["", "\r\n\r\n", " \r\n \t\r\n", &" \r\n".repeat(CHUNK)] {
                let text = "a line of text\r\n".repeat(size / 16);
                let kept = format!("From: a@example.net\r\n\r\n{text}");
                let content = format!("{kept}{end}");
                let stored = Spooled::store(content.clone().into_bytes(), dir.path()).unwrap();
                let (signed, by) = stored.signed(&signers, now).unwrap();
                let got = signed.load().unwrap();
                assert_eq!((by.as_ref(), got.len() as u64), (Some(&domain), signed.len()));
                let want = if end.contains(' ') { &kept } else { &content };
                let at = got.len() - want.len();
                assert!(got[at..] == *want.as_bytes(), "{size} octets and {end:.9?}");
                assert!(got[..at] == signers.sign(content.as_bytes(), now), "{size} octets and {end:.9?}");
            }
        }
        let other = Spooled::store(b"From: a@other.example\r\n\r\nx \r\n \r\n".to_vec(), dir.path()).unwrap();
        let (same, by) = other.clone().signed(&signers, now).unwrap();
        assert!(by.is_none() && same.load().unwrap() == other.load().unwrap(), "SIG-13: as it came");
    }

    // LIM-02, DUR-02
    #[test]
    fn content_of_any_size_reads_back_with_a_new_header() {
        let dir = tempfile::tempdir().unwrap();
        for size in [8, 100, HEAD, HEAD + CHUNK - 1, HEAD + CHUNK, CONTENT_PART, CONTENT_PART * 3 + 17] {
            let content: Vec<u8> =
                b"a: b\r\n\r\n".iter().copied().chain((0..=250u8).cycle()).take(size).collect();
            let received = spool(&content, 16 * 1024, dir.path());
            assert_eq!(received.header(), b"a: b\r\n\r\n");
            let spooled = received.with_header(b"x: y\r\na: b\r\n\r\n".to_vec());
            let want = [b"x: y\r\n", content.as_slice()].concat();
            assert_eq!(spooled.len(), want.len() as u64);
            assert!(spooled.load().unwrap() == want);
            for step in [1000, CONTENT_PART, want.len() + 1] {
                let (mut got, mut buf) = (Vec::new(), vec![0; step]);
                loop {
                    match spooled.read_at(got.len() as u64, &mut buf).unwrap() {
                        0 => break,
                        n => got.extend_from_slice(&buf[..n]),
                    }
                }
                assert!(got == want, "{size} octets in steps of {step}");
            }
            let again = Spooled::store(want.clone(), dir.path()).unwrap();
            assert!(again.load().unwrap() == want);
            assert_eq!(again.in_memory().is_some(), want.len() <= CONTENT_PART);
        }
        // DUR-04: nothing has a name, so nothing can be left behind.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    // LIM-06: a header section is whole in memory, however long.
    #[test]
    fn a_header_longer_than_the_head_stays_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let header = [b"a: ".to_vec(), vec![b'x'; 2 * HEAD], b"\r\n\r\n".to_vec()].concat();
        let mut spool = Spool::default();
        for chunk in header.chunks(1000) {
            spool.sink(true).extend_from_slice(chunk);
        }
        spool.sink(false).extend_from_slice(&[b'y'; CHUNK]);
        spool.flush(dir.path()).unwrap();
        let scan = Scan { size: 0, header: header.len() as u64, ..Scan::default() };
        assert_eq!(spool.finish(scan, dir.path()).unwrap().header(), header);
    }
}
