//! A run: the script's thread with the engine, and the main thread with everything that waits.
//!
//! ```text
//!  main thread                     script thread (large stack)
//!  tokio: calls, signals  ◀─────── host functions start operations
//!            │                             ▲
//!            └── completions, Ctrl-C ──▶ event loop ── jobs ── timers
//! ```
//!
//! Two threads, because a script that computes must not keep a connection from answering, and Ctrl-C
//! must reach a script that never waits: the engine asks the interrupt flag while it runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use aurae_kernel::signals::{Listener, listen};
use rquickjs::{Context, Ctx, Function, Module, Persistent, Promise, Runtime, Value};
use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::event_loop::{Event, EventLoop, Step};
use crate::host::{self, State};
use crate::modules::{ImportMap, ModuleLoader, ModuleResolver};
use crate::report;
use crate::sources::Sources;
use crate::throw;
use crate::transpile::Language;

/// The script thread's stack. Memory is used only as deep as a script recurses.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What the engine may use of it: the rest is for transpiling, which recurses as the syntax does. It
/// is the most that rquickjs takes as a limit.
const ENGINE_STACK_BYTES: usize = 16 * 1024 * 1024;

/// How much a script may allocate before cycles are looked for. Most scripts stay below; the default
/// of 256 KiB would walk the SDK a dozen times while it is loaded.
const GC_THRESHOLD_BYTES: usize = 16 * 1024 * 1024;

const MIB: usize = 1024 * 1024;

/// How much memory a script may use unless `--memory-limit` says otherwise.
pub(crate) const DEFAULT_MEMORY_LIMIT_MIB: usize = 1024;

/// How long a script may take to notice Ctrl-C: a system call it is in may not end. A second Ctrl-C
/// does not wait.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// The exit code after Ctrl-C: 128 and the signal's number, as a shell has it.
const INTERRUPTED: u8 = 130;

/// The exit code of a script that failed.
const FAILED: u8 = 1;

/// What a run needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the script sees as its arguments.
    pub(crate) arguments: Vec<String>,
    /// The client configuration, if one was named.
    pub(crate) config: Option<PathBuf>,
    /// The node that is meant where the script names none.
    pub(crate) node: Option<String>,
    pub(crate) memory_limit_mib: usize,
}

/// The module that is run.
#[derive(Debug)]
pub(crate) struct Script {
    /// An absolute path, or what stands for one.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) language: Language,
}

/// Runs a script.
pub(crate) fn run(script: Script, import_map: ImportMap, settings: Settings) -> ExitCode {
    match try_run(script, import_map, settings) {
        Ok(code) => {
            let _ = std::io::stdout().flush();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("error: cannot start the script: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn try_run(script: Script, import_map: ImportMap, settings: Settings) -> std::io::Result<u8> {
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let (tell_sender, sender) = oneshot::channel();
    let (tell_code, code) = oneshot::channel();

    // Before the script begins: Ctrl-C must not find the kernel's default.
    let ctrl_c = {
        let _in_runtime = io.enter();
        listen(Signal::INT.as_raw()).map_err(std::io::Error::other)?
    };
    let handle = io.handle().clone();
    let flag = interrupted.clone();
    std::thread::Builder::new().name("script".to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            let event_loop = Rc::new(EventLoop::new(handle));
            let _ = tell_sender.send(event_loop.sender());
            let isolate = Isolate::new(import_map, settings, event_loop, flag);
            let code = isolate.and_then(|isolate| isolate.run(script)).unwrap_or_else(|error| {
                eprintln!("error: the script engine failed: {error}");
                FAILED
            });
            let _ = tell_code.send(code);
        },
    )?;
    Ok(io.block_on(supervise(ctrl_c, sender, code, &interrupted)))
}

/// Waits for the script's end, or for Ctrl-C and then the script's end.
async fn supervise(
    mut ctrl_c: Listener,
    sender: oneshot::Receiver<Sender<Event>>,
    mut code: oneshot::Receiver<u8>,
    interrupted: &AtomicBool,
) -> u8 {
    tokio::select! {
        biased;
        code = &mut code => return code.unwrap_or(FAILED),
        () = ctrl_c.recv() => {}
    }
    interrupted.store(true, Ordering::Relaxed);
    if let Ok(sender) = sender.await {
        let _ = sender.send(Event::Interrupt);
    }
    tokio::select! {
        code = &mut code => code.unwrap_or(INTERRUPTED),
        () = ctrl_c.recv() => INTERRUPTED,
        () = tokio::time::sleep(INTERRUPT_GRACE) => INTERRUPTED,
    }
}

impl Stop {
    /// What was thrown.
    fn value<'js>(self, ctx: &Ctx<'js>) -> Option<Value<'js>> {
        match self {
            Self::Uncaught { value, .. } => value.restore(ctx).ok(),
            Self::NeverSettles | Self::Interrupted => None,
        }
    }
}

/// The engine with one script in it. It lives on its thread and is never taken down: the process
/// ends with it.
struct Isolate {
    runtime: Runtime,
    context: Context,
    state: State,
    interrupted: Arc<AtomicBool>,
    rejections: Rc<report::Rejections>,
}

/// Why a run ends before its script does.
enum Stop {
    /// Nobody caught what was thrown; `promise`: nor awaited the promise that was rejected with it.
    Uncaught { value: Persistent<Value<'static>>, promise: bool },
    /// The script waits for what cannot come.
    NeverSettles,
    /// Ctrl-C.
    Interrupted,
}

impl Isolate {
    fn new(
        import_map: ImportMap,
        settings: Settings,
        event_loop: Rc<EventLoop>,
        interrupted: Arc<AtomicBool>,
    ) -> rquickjs::Result<Self> {
        let runtime = Runtime::new()?;
        runtime.set_max_stack_size(ENGINE_STACK_BYTES);
        runtime.set_gc_threshold(GC_THRESHOLD_BYTES);
        runtime.set_memory_limit(settings.memory_limit_mib.saturating_mul(MIB));
        let flag = interrupted.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || flag.load(Ordering::Relaxed))));
        let sources = Rc::new(Sources::default());
        runtime.set_loader(ModuleResolver::new(import_map), ModuleLoader::new(sources.clone()));
        let rejections = Rc::new(report::Rejections::default());
        runtime.set_host_promise_rejection_tracker(Some(rejections.clone().tracker()));
        let context = Context::full(&runtime)?;
        let state =
            State { event_loop, sources, settings: Rc::new(settings), calls: Rc::default() };
        Ok(Self { runtime, context, state, interrupted, rejections })
    }

    /// Runs the script to its end and answers the exit code.
    fn run(self, script: Script) -> rquickjs::Result<u8> {
        let name = script.name.clone();
        let end = self.context.with(|ctx| {
            host::install(&ctx, &self.state)?;
            rquickjs::Result::Ok(self.main(&ctx, script))
        })?;
        let code = match end {
            Ok(()) => 0,
            Err(stop) => self.report(&name, stop)?,
        };
        // Taking down the heap takes longer than many a script; the kernel does it at once.
        std::mem::forget(self);
        Ok(code)
    }

    /// Tells why the run has ended.
    fn report(&self, name: &str, stop: Stop) -> rquickjs::Result<u8> {
        if self.interrupted.swap(false, Ordering::Relaxed) {
            self.context.with(|ctx| report::interrupted(&ctx, &self.state, stop.value(&ctx)));
            return Ok(INTERRUPTED);
        }
        let used = usize::try_from(self.runtime.memory_usage().malloc_size).unwrap_or_default();
        // An error is to be shown even when the memory for it was what was missing.
        self.runtime.set_memory_limit(0);
        match stop {
            Stop::Uncaught { value, promise } => self.context.with(|ctx| {
                let mut value = value.restore(&ctx)?;
                // Where there is not even memory for an error, the engine throws null.
                let limit = self.state.settings.memory_limit_mib.saturating_mul(MIB);
                if value.is_null() && used > limit.saturating_sub(MIB) {
                    value = throw::make(&ctx, "RangeError", report::OUT_OF_MEMORY)?;
                }
                report::uncaught(&ctx, &self.state, &value, promise);
                Ok(FAILED)
            }),
            Stop::NeverSettles => {
                report::never_settles(name);
                Ok(FAILED)
            }
            Stop::Interrupted => Ok(INTERRUPTED),
        }
    }

    fn main(&self, ctx: &Ctx<'_>, Script { name, text, language }: Script) -> Result<(), Stop> {
        let sources = &self.state.sources;
        let module = crate::modules::declare(ctx, sources, &name, text, language, true);
        let (_, evaluation) =
            module.and_then(Module::eval).map_err(|error| Self::fail(ctx, &error))?;
        self.settle(ctx, &evaluation)?;
        while self.turn(ctx, &evaluation)? {}
        if evaluation.state() == rquickjs::promise::PromiseState::Pending {
            return Err(Stop::NeverSettles);
        }
        Ok(())
    }

    /// Does the next thing. False: there is none.
    fn turn<'js>(&self, ctx: &Ctx<'js>, evaluation: &Promise<'js>) -> Result<bool, Stop> {
        let done = match self.state.event_loop.next() {
            Step::Done => return Ok(false),
            Step::Interrupt => return Err(Stop::Interrupted),
            Step::Timer(callback) => call(ctx, callback, None),
            Step::Settle { resolve, reject, settle } => match settle(ctx) {
                Ok(value) => call(ctx, resolve, Some(value)),
                Err(error) => call(ctx, reject, Some(report::thrown(ctx, &error))),
            },
        };
        done.map_err(|error| Self::fail(ctx, &error))?;
        self.settle(ctx, evaluation)?;
        Ok(true)
    }

    /// Runs the jobs that are ready (what waited for promises), and looks for rejections that nobody
    /// handled.
    fn settle<'js>(&self, ctx: &Ctx<'js>, evaluation: &Promise<'js>) -> Result<(), Stop> {
        while ctx.execute_pending_job() {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted);
            }
        }
        let Some((promise, reason)) = self.rejections.take(ctx) else {
            return Ok(());
        };
        let promise = promise != *evaluation.as_value();
        Err(Stop::Uncaught { value: Persistent::save(ctx, reason), promise })
    }

    /// What an error means for the run.
    fn fail(ctx: &Ctx<'_>, error: &rquickjs::Error) -> Stop {
        Stop::Uncaught { value: Persistent::save(ctx, report::thrown(ctx, error)), promise: false }
    }
}

fn call<'js>(
    ctx: &Ctx<'js>,
    function: Persistent<Function<'static>>,
    argument: Option<Value<'js>>,
) -> rquickjs::Result<()> {
    let function = function.restore(ctx)?;
    match argument {
        Some(argument) => function.call((argument,)),
        None => function.call(()),
    }
}
