//! `tandem swap`: the following node serves, this one follows.

use anyhow::Result;
use tandem_repl::control::Request;

use super::act;
use crate::args::ActionArgs;
use crate::config::Dirs;
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs) -> Result<Exit> {
    act(dirs, args, &Request::Swap)
}
