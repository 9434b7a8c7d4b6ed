//! The composition root: builds adapters from the configuration, connects ports, starts tasks, shuts down.
