//! Reports by mail, on their way into the queue.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::queue::manager::Manager;
use crate::queue::{Intake as _, NewMessage, QueueStore, StoreError};
use crate::tlsrpt::ReportMailer;

/// Enqueues, and lets the manager know.
pub(super) struct Mailer {
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) manager: Manager,
}

impl ReportMailer for Mailer {
    fn mail(&self, message: NewMessage) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.queue.enqueue(message, None).await?;
            self.manager.arrived(None, None);
            Ok(())
        }
        .boxed()
    }
}
