//! The admin interface: queue and policy commands, health.
