//! One session of a resync to this node, as the driver sees it.

use super::super::service::Service;
use super::target::FsTarget;
use std::sync::Arc;
use tandem_repl::io::driver::Requests;
use tandem_repl::logic::resync::Rules;
use tandem_repl::logic::resync::messages::{Open, Reply, Request};
use tandem_repl::logic::resync::target::Target;

impl FsTarget {
    /// One session's target.
    pub(crate) fn session(self) -> FsSession {
        let service = self.service.clone();
        FsSession(Target::new(Arc::new(self), Rules::default()), service)
    }
}

/// A target as the driver sees it.
pub(crate) struct FsSession(Target<FsTarget>, Option<Arc<Service>>);

impl Requests for FsSession {
    fn handle(&self, request: &Request) -> Reply {
        if let Request::Open(open) = request
            // The source does not know what somebody changed here.
            && open.aside.is_none()
            && let Some(aside) = self.1.as_deref().and_then(Service::aside_of_own)
        {
            let aside = Some(aside);
            return self.0.handle(&Request::Open(Open {
                aside,
                ..open.clone()
            }));
        }
        self.0.handle(request)
    }
}
