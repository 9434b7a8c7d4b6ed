//! SMTP server side: data.
