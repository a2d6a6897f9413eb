//! Sessions of one model, made as calls come together: `ort` runs one call at a time in each. Knows no tensors.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ort::ep::CPU;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};
use parking_lot::{Condvar, Mutex};

use super::{EngineError, Memory, OnnxOptions, library};

pub(super) struct Pool {
    options: OnnxOptions,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    idle: Vec<Worker>,
    made: usize,
    /// The file, for the sessions that are not made yet.
    file: Option<Arc<[u8]>>,
}

/// A session with what its runs need.
pub(super) struct Worker {
    pub session: Session,
    /// Asks for every output.
    pub everything: RunOptions,
}

/// A worker on loan.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    worker: Option<Worker>,
}

impl Pool {
    /// Makes the first session, so that a file which does not load is refused at once.
    pub fn new(file: &[u8], options: &OnnxOptions) -> Result<Pool, EngineError> {
        let first = make(file, options)?;
        let state = State { idle: vec![first], made: 1, file: (options.sessions > 1).then(|| Arc::from(file)) };
        Ok(Pool { options: options.clone(), state: Mutex::new(state), freed: Condvar::new() })
    }

    /// A session that nobody uses: an idle one, else a new one while there may be more, else the next to be freed.
    pub fn take(&self) -> Result<Lease<'_>, EngineError> {
        let mut state = self.state.lock();
        loop {
            if let Some(worker) = state.idle.pop() {
                return Ok(Lease { pool: self, worker: Some(worker) });
            }
            if let Some(file) = state.file.clone() {
                state.made += 1;
                if state.made == self.options.sessions {
                    state.file = None;
                }
                drop(state);
                return self.another(file);
            }
            self.freed.wait(&mut state);
        }
    }

    fn another(&self, file: Arc<[u8]>) -> Result<Lease<'_>, EngineError> {
        match make(&file, &self.options) {
            Ok(worker) => Ok(Lease { pool: self, worker: Some(worker) }),
            Err(error) => {
                let mut state = self.state.lock();
                state.made -= 1;
                state.file = Some(file);
                drop(state);
                self.freed.notify_one();
                Err(error)
            }
        }
    }

    /// Options that ask for every output.
    pub fn run_options(&self) -> Result<RunOptions, ort::Error> {
        run_options(&self.options)
    }

    /// How often the weights are held: by each session, and by the file while it is kept for more.
    pub fn copies(&self) -> usize {
        let state = self.state.lock();
        state.made + usize::from(state.file.is_some())
    }
}

impl Deref for Lease<'_> {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        self.worker.as_ref().expect("a lease has its worker until it ends")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("a lease has its worker until it ends")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.state.lock().idle.extend(self.worker.take());
        self.pool.freed.notify_one();
    }
}

fn make(file: &[u8], options: &OnnxOptions) -> Result<Worker, EngineError> {
    let environment = &library::engine(None)?.environment;
    // `ort` asserts that it knows the types of inputs and outputs.
    let made = catch_unwind(AssertUnwindSafe(|| {
        let session = configured(Session::builder(environment)?, options)?.commit_from_memory(file)?;
        Ok::<_, ort::Error>(Worker { session, everything: run_options(options)? })
    }));
    match made {
        Ok(worker) => worker.map_err(|error| EngineError::Refused(plain(error.message()))),
        Err(_) => Err(EngineError::Refused("an input or output has a type that this engine does not know".to_owned())),
    }
}

fn configured(builder: SessionBuilder, options: &OnnxOptions) -> Result<SessionBuilder, ort::Error> {
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.max(1))?
        .with_inter_threads(1)?
        // Threads that wait by spinning take the cores from the other models.
        .with_intra_op_spinning(false)?
        // A plan for all of a call's memory asks for one block, which the system's allocator then maps anew each time.
        .with_memory_pattern(options.memory != Memory::Direct)?
        .with_execution_providers([CPU::default().with_arena_allocator(options.memory != Memory::Direct).build()])?;
    Ok(builder)
}

fn run_options(options: &OnnxOptions) -> Result<RunOptions, ort::Error> {
    let mut run = RunOptions::new()?;
    if options.memory == Memory::Shrinking {
        run.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    }
    Ok(run)
}

/// ONNX Runtime's message in one line, without the place in its source: `/path/file.cc:12 type class::function(types)`,
/// or `file.h:12 function`.
pub(super) fn plain(message: &str) -> String {
    let mut words: Vec<&str> = message.split_whitespace().collect();
    let is_place = |word: &&str| {
        let file = word.rsplit_once(':').filter(|(_, line)| line.parse::<u32>().is_ok()).map(|(file, _)| file);
        file.is_some_and(|file| file.ends_with(".cc") || file.ends_with(".h"))
    };
    while let Some(place) = words.iter().position(is_place) {
        let after = &words[place + 1..];
        let end = if words[place].starts_with('/') { signature(after) } else { after.len().min(1) };
        words.drain(place..=place + end);
    }
    words.join(" ")
}

/// How many words a C++ signature takes: up to the parenthesis that closes its arguments.
fn signature(words: &[&str]) -> usize {
    let mut depth = 0;
    let mut arguments = false;
    for (place, word) in words.iter().enumerate() {
        depth += word.matches('(').count() as i32 - word.matches(')').count() as i32;
        arguments |= word.contains('(');
        if arguments && depth == 0 {
            return place + 1 + usize::from(words.get(place + 1) == Some(&"const"));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_place_in_the_source() {
        let check = |given: &str, expected: &str| assert_eq!(plain(given), expected);
        check(
            "Message: /src/core/ops.h:583 void rt::Iterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 was false.\n",
            "Message: axis == 1 was false.",
        );
        check("MatMul: matmul_helper.h:59 Compute MatMul dimension mismatch", "MatMul: MatMul dimension mismatch");
        check("/src/a.cc:2 T A::f(const B<C()>&) const Unsupported IR version: 14", "Unsupported IR version: 14");
        check("index: 1 Got: 3 Expected: 2", "index: 1 Got: 3 Expected: 2");
        check("/src/a.cc:2", "");
        check("/src/a.cc:2 no signature (", "no signature (");
    }
}
