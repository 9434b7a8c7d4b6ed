//! The octets of a message, wherever they lie.

use std::io;

use bytes::Bytes;

/// Content that can be read from anywhere, so that a large message never lies in memory as a whole.
pub trait ContentSource: Send + Sync {
    /// Octets.
    fn len(&self) -> u64;

    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` on and says how much there was; short only at the end.
    ///
    /// # Errors
    /// Of the file behind it.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The whole content, when it is small enough to lie in memory already. The fast path to a worker.
    fn in_memory(&self) -> Option<Bytes>;

    /// Asked within the commit: whether the message is still to be stored. Never again `true` once the sender was
    /// told that it is not (DUR-06).
    fn is_wanted(&self) -> bool {
        true
    }
}

impl ContentSource for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.get(o..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}
