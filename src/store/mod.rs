//! Where the queue, the policies and the session records are kept. One store so far: [`sqlite`].

pub mod sqlite;
