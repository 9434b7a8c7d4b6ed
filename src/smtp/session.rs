//! SMTP server side: session.
