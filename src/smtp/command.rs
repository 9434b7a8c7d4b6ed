//! SMTP server side: command.
