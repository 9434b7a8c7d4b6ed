//! SMTP server side: ehlo.
