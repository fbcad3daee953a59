//! Passes the log to a function of the host.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::{self, Write};
use std::process;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::call::Failure;
use super::types::{LogFunction, LogLevel, LogRecord, LogTopic};

static TARGET: Mutex<Option<Arc<Target>>> = Mutex::new(None);
static IS_INSTALLED: OnceLock<bool> = OnceLock::new();

thread_local! {
    static IS_CALLING: Cell<bool> = const { Cell::new(false) };
}

/// The host's function.
struct Target {
    function: unsafe extern "C" fn(*const LogRecord, *mut c_void),
    data: *mut c_void,
    level: LogLevel,
    process: u32,
}

// SAFETY: `hookvisor_log_to` asks for a function that any thread may call with this pointer, which is not followed here.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Replaces the function. After this returns, the former one is not called any more.
pub(super) fn set(function: LogFunction, data: *mut c_void, level: LogLevel) -> Result<(), Failure> {
    if IS_CALLING.get() {
        return Err(Failure::LogInLog);
    }
    let installed = || tracing::subscriber::set_global_default(tracing_subscriber::registry().with(ToHost)).is_ok();
    if function.is_some() && !IS_INSTALLED.get_or_init(installed) {
        return Err(Failure::LogTaken);
    }
    let new = function.map(|function| Arc::new(Target { function, data, level, process: process::id() }));
    let former = std::mem::replace(&mut *TARGET.lock().unwrap_or_else(PoisonError::into_inner), new);
    callsite::rebuild_interest_cache();
    if let Some(former) = former {
        // The parent's threads do not exist here, and never finish.
        while former.process == process::id() && Arc::strong_count(&former) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn target() -> Option<Arc<Target>> {
    TARGET.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn rank(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::HookvisorLogError,
        Level::WARN => LogLevel::HookvisorLogWarning,
        Level::INFO => LogLevel::HookvisorLogInfo,
        _ => LogLevel::HookvisorLogDebug,
    }
}

impl LogLevel {
    /// C may pass any number.
    pub(super) fn of(level: c_int) -> Result<Self, Failure> {
        let levels =
            [Self::HookvisorLogError, Self::HookvisorLogWarning, Self::HookvisorLogInfo, Self::HookvisorLogDebug];
        levels.into_iter().find(|&known| known as c_int == level).ok_or(Failure::LogLevel(level))
    }
}

struct ToHost;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ToHost {
    /// Spans are always enabled: they name the event and hook of a record.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("hookvisor")
            && *metadata.level() <= Level::DEBUG
            && target()
                .is_some_and(|target| metadata.is_span() || rank(*metadata.level()) as c_int <= target.level as c_int)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(target().map_or(LevelFilter::OFF, |_| LevelFilter::DEBUG))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(target) = target() else { return };
        if IS_CALLING.replace(true) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.complete(outer);
            }
        }
        let topic = match event.metadata().target() {
            "hookvisor::started" => LogTopic::HookvisorTopicStarted,
            "hookvisor::slow" => LogTopic::HookvisorTopicSlow,
            "hookvisor::call" => LogTopic::HookvisorTopicEnded,
            "hookvisor::vetoed" => LogTopic::HookvisorTopicVetoed,
            "hookvisor::broken" => LogTopic::HookvisorTopicBroken,
            "hookvisor::guest" => LogTopic::HookvisorTopicGuest,
            _ => LogTopic::HookvisorTopicOther,
        };
        let record = LogRecord {
            size: size_of::<LogRecord>(),
            level: rank(*event.metadata().level()),
            topic,
            message: pointer(fields.message.as_ref()),
            driver: pointer(fields.driver.as_ref()),
            object: pointer(fields.object.as_ref()),
            operation: pointer(fields.operation.as_ref()),
            hook: pointer(fields.hook.as_ref()),
            exit_status: fields.status.unwrap_or(-1),
            duration_us: fields.duration.unwrap_or(-1),
        };
        // SAFETY: `hookvisor_log_to` asks for a function that may be called so; the strings live until it returns.
        unsafe { (target.function)(&raw const record, target.data) };
        IS_CALLING.set(false);
    }
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// The fields of a record or span that C gets.
#[derive(Default)]
struct Fields {
    message: Option<CString>,
    driver: Option<CString>,
    object: Option<CString>,
    operation: Option<CString>,
    hook: Option<CString>,
    status: Option<c_int>,
    duration: Option<i64>,
}

impl Fields {
    /// Takes missing fields from an outer span.
    fn complete(&mut self, outer: &Self) {
        let fields = [
            (&mut self.driver, &outer.driver),
            (&mut self.object, &outer.object),
            (&mut self.operation, &outer.operation),
            (&mut self.hook, &outer.hook),
        ];
        for (field, outer) in fields {
            if field.is_none() {
                field.clone_from(outer);
            }
        }
    }

    fn text(&mut self, name: &str) -> Option<&mut Option<CString>> {
        Some(match name {
            "message" => &mut self.message,
            "hookvisor.driver" => &mut self.driver,
            "hookvisor.object" => &mut self.object,
            "hookvisor.operation" => &mut self.operation,
            "hookvisor.hook" | "process.executable.path" => &mut self.hook,
            _ => return None,
        })
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "hookvisor.status" => self.status = c_int::try_from(value).ok(),
            "hookvisor.duration_us" => self.duration = i64::try_from(value).ok(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(place) = self.text(field.name()) {
            let mut text = String::new();
            let _infallible = write!(text, "{value:?}");
            *place = CString::new(text.replace('\0', "?")).ok();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.text(field.name()) {
            *place = CString::new(value.replace('\0', "?")).ok();
        }
    }
}
