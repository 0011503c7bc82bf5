//! Threads for work that waits for a disk, so that the threads that serve the kernel go on.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    wake: Condvar,
}

/// Runs jobs in any order. The queue holds at most one job per waiting application thread.
pub(crate) struct Pool {
    queue: Arc<Queue>,
}

impl Pool {
    pub(crate) fn start(name: &str, threads: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        for n in 0..threads {
            let queue = queue.clone();
            let run = move || {
                loop {
                    let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                    let job = loop {
                        match jobs.pop_front() {
                            Some(job) => break job,
                            None => {
                                let woken = queue.wake.wait(jobs);
                                jobs = woken.unwrap_or_else(PoisonError::into_inner);
                            }
                        }
                    };
                    drop(jobs);
                    job();
                }
            };
            std::thread::Builder::new()
                .name(format!("{name}-{n}"))
                .spawn(run)?;
        }
        Ok(Self { queue })
    }

    pub(crate) fn run(&self, job: Job) {
        let mut jobs = self
            .queue
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        jobs.push_back(job);
        drop(jobs);
        self.queue.wake.notify_one();
    }
}
