//! The composition root: builds adapters from the configuration, connects ports, starts tasks, shuts down.
//!
//! The order of the start is the order of trust: store and instance lock first, then what can refuse to work
//! (roots, resolver, certificate, sockets), and only when everything stands is anybody told that we are ready.
//! The shutdown (DUR-18) goes the other way: no new attempts, running ones end, listeners close, store last.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::http::{self as admin_http, AdminState};
use crate::admin::metrics::{self as admin_metrics, Metrics, MetricsState};
use crate::admin::reports as admin_reports;
use crate::admin::{AdminActions, token as admin_token};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::attempt::metrics::AttemptMetrics;
use crate::delivery::pool::Pool;
use crate::dkim::Signers;
use crate::dns::Dnssec;
use crate::dns::belief::Mode;
use crate::dns::cache::metrics::DnsMetrics;
use crate::mtasts::PolicyStore;
use crate::mtasts::service::metrics::PolicyMetrics;
use crate::observe;
use crate::observe::metrics::table;
use crate::observe::prometheus::Prometheus;
use crate::queue::manager::metrics::QueueMetrics;
use crate::queue::manager::{Manager, ManagerSettings};
use crate::queue::{Intake, QueueStore};
use crate::security::exception::Exceptions;
use crate::store::sqlite::metrics::StoreMetrics;
use crate::store::sqlite::{OpenError, SqliteSettings, SqliteStore};
use crate::submission::accept::Acceptor;
use crate::submission::metrics::SubmissionMetrics;
use crate::submission::smtp_connection::Service;
use crate::submission::smtp_listener::{self, Slots};
use crate::submission::tls::ReloadingCertificate;
use crate::tlsrpt::service::metrics::ReportMetrics;
use crate::tlsrpt::service::{Parts, ReportService, ReportSettings};
use crate::tlsrpt::{ReportStore, SessionStore};

mod admin;
mod clock;
pub mod dnssec;
mod exceptions;
mod interfaces;
mod mailer;
mod metrics;
pub mod outbound;
mod settings;
mod signals;
pub(crate) mod signing;
pub mod standing;
pub mod status;
pub mod trust;

pub use clock::SystemClock;
pub(crate) use settings::reports as report_settings;

/// How long the farewells after the drain may take: content in progress has 30 s of it.
const FAREWELL: Duration = Duration::from_secs(40);

/// What would be right when `data_dir` cannot be used.
const DATA_DIR_RIGHT: &str = "name a directory that the relay may write to";

/// Runs the relay in the foreground until a signal ends it.
pub fn serve(config: Config) -> ExitCode {
    if let Err(error) = observe::log::init(config.log.format, &config.log.level, config.log.addresses) {
        return refuse(&error, 2);
    }
    for warning in &config.warnings {
        tracing::warn!(event = "configuration", "{warning}");
    }
    for sentence in config.no_effect() {
        tracing::warn!(event = "no-effect", "{sentence}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the runtime cannot be started: {error}"), 1),
    };
    let ended = runtime.block_on(run(&config));
    // Nothing that is still blocked may keep a stopped relay alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error, 1),
    }
}

fn refuse(error: &str, status: u8) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "sealpost: {error}");
    ExitCode::from(status)
}

/// Everything that runs.
struct Relay {
    store: Arc<SqliteStore>,
    manager: Manager,
    pool: Arc<Pool>,
    certificate: Option<Arc<ReloadingCertificate>>,
    listeners: TaskTracker,
    close_listeners: CancellationToken,
    background: TaskTracker,
    stop_background: CancellationToken,
    listening: Arc<AtomicBool>,
}

async fn run(config: &Config) -> Result<(), String> {
    let mut signals =
        signals::Signals::listen().map_err(|e| format!("signals cannot be listened to: {e}"))?;
    let relay = start(config).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"), hostname = %config.hostname);

    let ended = loop {
        tokio::select! {
            wish = signals.next() => match wish {
                signals::Wish::Stop => break Ok(()),
                signals::Wish::Reload => relay.reload_certificate(),
            },
            // DUR-21: without its writer the process can keep no promise.
            () = relay.store.closed() => break Err("the writer of the store has ended; see the log".to_owned()),
            // DUR-13: a damaged database is for an operator, not for more mail.
            () = unwritable(&relay.store) => {
                break Err(format!("the database in {} does not take commits any more; see the log", config.data_dir.display()));
            }
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!(event = "stopping", drain = ?config.delivery.drain);
    tokio::select! {
        () = relay.shut_down() => tracing::info!(event = "stopped"),
        _ = signals.next() => {
            tracing::warn!(event = "stopped-at-once", "second signal: running attempts were cut off");
            relay.manager.abandon();
        }
    }
    ended
}

/// Resolves when the store has said for some seconds that it cannot write.
async fn unwritable(store: &SqliteStore) {
    let mut bad = 0;
    while bad < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bad = if store.health().writable { 0 } else { bad + 1 };
    }
}

async fn start(config: &Config) -> Result<Relay, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    std::fs::create_dir_all(&config.data_dir).map_err(|e| {
        format!("data_dir: {} cannot be made: {e}; {DATA_DIR_RIGHT}", config.data_dir.display())
    })?;
    let prometheus = Prometheus::new().map_err(|e| format!("metrics cannot be counted: {e}"))?;
    let counting = prometheus.registry();
    let store = open_store(config, &clock, StoreMetrics::new(&counting)).await?;
    let token = admin_token::read_or_make(&config.admin.token, &config.data_dir)
        .map_err(|e| format!("admin.token: cannot be read or made in {}: {e}", config.data_dir.display()))?;
    let (resolver, self_test) = outbound::resolver(config, &clock, DnsMetrics::new(&counting))?;
    let (belief, answers) = (Arc::clone(&self_test.belief), Arc::clone(&self_test.answers));
    match belief.mode() {
        // Nobody asked for it to be off.
        Mode::NotLocal => tracing::warn!(event = "dnssec", "DNSSEC {}", belief.words()),
        Mode::Off | Mode::TrustAd | Mode::Validate => {
            tracing::info!(event = "dnssec", "DNSSEC {}", belief.words());
        }
    }
    let believed = belief.proven();
    let roots = Arc::new(trust::load(config.trust.roots, &config.trust.extra_roots)?);
    let certificate = certificate(config)?;

    let queue: Arc<dyn QueueStore> = Arc::clone(&store) as _;
    let policy_store: Arc<dyn PolicyStore> = Arc::clone(&store) as _;
    let policy_metrics = PolicyMetrics::new(&counting);
    let policies =
        outbound::policies(config, &resolver, &roots, Arc::clone(&policy_store), &clock, policy_metrics)?;
    policies.note_start(store.last_written());
    let pool = Pool::new(outbound::pool_settings(config), Arc::clone(&clock));
    let poster = outbound::poster(config, &resolver, &roots, &clock)?;
    let (report_resolver, standing_resolver) = (Arc::clone(&resolver), Arc::clone(&resolver));
    let ended = store.ended_exceptions().await.map_err(|e| format!("data_dir: {e}"))?;
    let exceptions = Exceptions::new(config.exception.iter().cloned(), &ended);
    let exceptions = Arc::new(exceptions.with_memory(Arc::clone(&store) as _));
    interfaces::are_local(&config.delivery.source_addresses)?;
    let attempts = outbound::Outbound {
        resolver,
        policies: policies.clone(),
        pool: Arc::clone(&pool),
        roots,
        records: Arc::clone(&store) as Arc<dyn SessionStore>,
        store: Arc::clone(&queue),
        exceptions: Arc::clone(&exceptions),
        clock: Arc::clone(&clock),
        belief: Arc::clone(&belief),
        metrics: AttemptMetrics::new(&counting),
    }
    .attempts(config)?;
    let courier = Arc::new(outbound::Courier { attempts, pool: Arc::clone(&pool) });
    let signers = signing::signers(config)?;
    let manager_settings = ManagerSettings {
        signers: signers.clone(),
        metrics: QueueMetrics::new(&counting, &config.exception),
        ..settings::manager(config)
    };
    let manager = Manager::new(manager_settings, Arc::clone(&queue), courier, Arc::clone(&clock));

    let report_store: Arc<dyn ReportStore> = Arc::clone(&store) as _;
    let reports = ReportService::new(
        ReportSettings { metrics: ReportMetrics::new(&counting), ..settings::reports(config) },
        Parts {
            store: Arc::clone(&report_store),
            resolver: report_resolver,
            mailer: Arc::new(mailer::Mailer { queue: Arc::clone(&queue), manager: manager.clone() }),
            poster: Arc::new(poster),
            signers: signers.clone(),
            clock: Arc::clone(&clock),
        },
    );

    let relay = Relay {
        store,
        manager: manager.clone(),
        pool: Arc::clone(&pool),
        certificate,
        listeners: TaskTracker::new(),
        close_listeners: CancellationToken::new(),
        background: TaskTracker::new(),
        stop_background: CancellationToken::new(),
        listening: Arc::new(AtomicBool::new(false)),
    };
    let submission_metrics = SubmissionMetrics::new(&counting);
    relay.listen(config, Arc::clone(&queue), signers.clone(), &clock, believed, submission_metrics).await?;
    let (tests, problems) =
        (counting.counters(&table::DNSSEC_SELF_TESTS), counting.gauge(&table::STANDING_PROBLEMS));
    let scrapes = metrics::Parts {
        figures: Arc::clone(&relay.store) as _,
        queue: Arc::clone(&queue),
        manager: manager.clone(),
        pool: Arc::clone(&pool),
        belief: Arc::clone(&belief),
        answers,
        exceptions: Arc::clone(&exceptions),
        certificate: relay.certificate.clone(),
        clock: Arc::clone(&clock),
        reserve: config.submission.max_message_size.saturating_mul(2).max(config.queue.reserve),
    };
    let scrapes = Arc::new(metrics::Scrapes::new(prometheus, scrapes));
    let noticed = Arc::<status::Noticed>::default();
    let actions = Arc::new(admin::Actions {
        manager: manager.clone(),
        policies: policies.clone(),
        pool,
        queue: Arc::clone(&queue),
        reports: reports.clone(),
        listening: Arc::clone(&relay.listening),
        belief,
        watched: status::Watched {
            config: config.clone(),
            started: clock.now(),
            exceptions: Arc::clone(&exceptions),
            certificate: relay.certificate.clone(),
            noticed: Arc::clone(&noticed),
        },
    });
    relay.show_metrics(config, Arc::clone(&scrapes) as _, Arc::clone(&actions) as _).await?;
    let state = AdminState {
        queue,
        policies: policy_store,
        reports: Arc::new(admin_reports::Desk { service: reports.clone(), store: report_store }),
        overview: Arc::clone(&relay.store) as _,
        actions,
        metrics: Arc::clone(&scrapes) as _,
        token,
        clock: Arc::clone(&clock),
        max_age: config.queue.max_age,
        limits: admin_http::Limits::default(),
    };
    relay.administer(config, state).await?;
    relay.background.spawn(policies.run(relay.stop_background.clone()));
    let stop = relay.stop_background.clone();
    relay.background.spawn(async move {
        stop.run_until_cancelled(observe::limit::report()).await;
    });
    relay.background.spawn(reports.run(relay.stop_background.clone()));
    relay.background.spawn(scrapes.upkeep(relay.stop_background.clone()));
    relay.background.spawn(self_test.watch(tests, relay.stop_background.clone()));
    let stop = relay.stop_background.clone();
    let watch = standing::watch(config.clone(), signers, standing_resolver, problems, noticed, stop);
    relay.background.spawn(watch);
    let watch = exceptions::watch(exceptions, Arc::clone(&clock), relay.stop_background.clone());
    relay.background.spawn(watch);
    if let Some(certificate) = &relay.certificate {
        relay.background.spawn(Arc::clone(certificate).watch(relay.stop_background.clone()));
    }
    manager.start();
    relay.listening.store(true, Ordering::Relaxed);
    Ok(relay)
}

async fn open_store(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: StoreMetrics,
) -> Result<Arc<SqliteStore>, String> {
    let store_settings = SqliteSettings {
        longest_wait: settings::longest_wait(config),
        metrics,
        ..SqliteSettings::new(&config.data_dir)
    };
    let clock = Arc::clone(clock);
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&store_settings, clock)).await;
    let store = opened.map_err(|e| e.to_string())?.map_err(|e| match e {
        OpenError::Io { .. } => format!("data_dir: {e}; {DATA_DIR_RIGHT}"),
        e => format!("data_dir: {e}"),
    })?;
    let recovered = store.recovered();
    tracing::info!(event = "queue-opened", data_dir = %config.data_dir.display(), recovered = recovered.recipients, poisonous = recovered.poisonous);
    Ok(Arc::new(store))
}

/// Names key and address, and what would help.
fn cannot_listen(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let right = match error.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that, or write another port",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address: write one that it has",
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs the right to it: write a higher port, or give the service CAP_NET_BIND_SERVICE"
        }
        _ => "write an address and port of this machine that is free",
    };
    format!("{key}: cannot listen on {address}: {error}; {right}")
}

fn certificate(config: &Config) -> Result<Option<Arc<ReloadingCertificate>>, String> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let certificate =
        ReloadingCertificate::load(&tls.certificate, &tls.private_key).map_err(|e| format!("[tls]: {e}"))?;
    Ok(Some(Arc::new(certificate)))
}

impl Relay {
    /// Binds every listener before the first connection is served, so that a start is whole or not at all.
    async fn listen(
        &self,
        config: &Config,
        queue: Arc<dyn QueueStore>,
        signers: Signers,
        clock: &Arc<dyn Clock>,
        dnssec: Dnssec,
        metrics: SubmissionMetrics,
    ) -> Result<(), String> {
        let submission = Arc::new(settings::submission(config, dnssec));
        let slots = Slots::new(submission.max_connections, submission.max_connections_per_source);
        let intake: Arc<dyn Intake> = Arc::new(self.manager.clone());
        let tls = match &self.certificate {
            Some(c) => Some(c.server_config().map_err(|e| format!("[tls]: {e}"))?),
            None => None,
        };
        let acceptor =
            Acceptor::new(submission, queue, intake, Arc::clone(clock)).signing(signers).counting(metrics);
        let service = Arc::new(Service::new(acceptor, tls).map_err(|e| e.to_string())?);
        let mut bound = Vec::new();
        for (i, listener) in config.listener.iter().enumerate() {
            let Some(rules) = settings::listener(listener) else { continue };
            let socket = TcpListener::bind(rules.address)
                .await
                .map_err(|e| cannot_listen(&format!("listener[{}].address", i + 1), rules.address, &e))?;
            bound.push((rules, socket));
        }
        for (rules, socket) in bound {
            tracing::info!(event = "listening", address = %rules.address, protocol = ?rules.protocol, auth = ?rules.auth);
            let serve = smtp_listener::serve(
                socket,
                rules,
                Arc::clone(&service),
                Arc::clone(&slots),
                self.close_listeners.clone(),
            );
            self.listeners.spawn(serve);
        }
        Ok(())
    }

    /// Serves `[metrics] listen`.
    async fn show_metrics(
        &self,
        config: &Config,
        metrics: Arc<dyn Metrics>,
        actions: Arc<dyn AdminActions>,
    ) -> Result<(), String> {
        let Some(address) = config.metrics.listen else { return Ok(()) };
        let listener =
            TcpListener::bind(address).await.map_err(|e| cannot_listen("metrics.listen", address, &e))?;
        tracing::info!(event = "metrics-listening", %address);
        let state = MetricsState { metrics, actions, limits: MetricsState::LIMITS };
        let stop = self.stop_background.clone();
        self.background.spawn(async move {
            if let Err(error) = admin_metrics::serve(state, listener, stop).await {
                tracing::error!(event = "metrics-failed", %error);
            }
        });
        Ok(())
    }

    async fn administer(&self, config: &Config, state: AdminState) -> Result<(), String> {
        let Some(address) = config.admin.listen else { return Ok(()) };
        let listener =
            TcpListener::bind(address).await.map_err(|e| cannot_listen("admin.listen", address, &e))?;
        tracing::info!(event = "admin-listening", %address);
        let stop = self.stop_background.clone();
        self.background.spawn(async move {
            if let Err(error) = admin_http::serve(state, listener, stop).await {
                tracing::error!(event = "admin-failed", %error);
            }
        });
        Ok(())
    }

    fn reload_certificate(&self) {
        use sd_notify::NotifyState;
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
        }
        match &self.certificate {
            Some(certificate) => match certificate.reload() {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(event = "certificate-not-reloaded", %error, "the old one stays in use")
                }
            },
            None => tracing::info!(event = "nothing-to-reload", "this version re-reads certificates only"),
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// DUR-18: new mail is accepted while attempts drain; then listeners close, and the store is last.
    async fn shut_down(&self) {
        self.manager.drain().await;
        self.listening.store(false, Ordering::Relaxed);
        self.close_listeners.cancel();
        self.listeners.close();
        if tokio::time::timeout(FAREWELL, self.listeners.wait()).await.is_err() {
            tracing::warn!(event = "clients-cut-off");
        }
        self.pool.close_idle();
        self.stop_background.cancel();
        self.background.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.background.wait()).await;
        self.store.close().await;
    }
}
