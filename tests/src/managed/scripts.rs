//! The scripts of the application, and what they leave behind: a line for each call.

use super::{ADDRESS, Options, text};
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// All scripts are one program, told which it is. A test may add to it: it reads the file
/// `NODE.SCRIPT` of the room first, if there is one.
const SCRIPT: &str = r#"#!/bin/sh
room=$ROOM; me=$TANDEM_MODULE.$TANDEM_NODE
way="$TANDEM_FROM $TANDEM_TO $TANDEM_ACTION"
echo "$(date +%s%6N) $TANDEM_NODE $1 ${2:--} $way $TANDEM_MODULE" >>"$room/calls"
if [ -e "$room/$TANDEM_NODE.$1" ]; then . "$room/$TANDEM_NODE.$1"; fi
runs() { [ -n "$1" ] && grep -aqs "$room/$me" "/proc/$1/cmdline"; }
case $1 in
start_prim)
    rm -f "$room/$me.ready"
    "$HELPER" serve "$DIR" "$TANDEM_NODE" "$room/$me.ready" $TANDEM_VIRTUAL_IPS \
        >>"$room/$me.log" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$room/$me.pid"
    until [ -e "$room/$me.ready" ]; do
        kill -0 $pid || { tail -n 1 "$room/$me.log"; exit 1; }
        sleep 0.02
    done;;
stop_prim)
    pid=$(cat "$room/$me.pid" 2>/dev/null)
    runs "$pid" || exit 0
    kill -TERM $pid
    while runs $pid; do sleep 0.02; done;;
esac
"#;

/// A call of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// By [`super::program::now`].
    pub at: u64,
    pub script: String,
    pub force: bool,
    pub from: String,
    pub to: String,
    pub action: String,
}

/// Writes the scripts; the keys of the module's file that name them, and the rest.
pub(super) fn settings(room: &Path, helper: &str, options: &Options<'_>) -> Result<String> {
    let path = room.join("script");
    std::fs::write(&path, SCRIPT)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let second = options.second.map(|(written, _)| format!(", {written}"));
    let addresses = format!("\"{ADDRESS}\"{}", second.unwrap_or_default());
    let program = text(&path)?;
    let limit = |name: &str| {
        let limits = options.limits.iter();
        let limit = limits.clone().find(|(script, _)| *script == name);
        limit.map_or("30s", |(_, limit)| limit)
    };
    Ok(format!(
        "virtual_ips: [{addresses}],\n  {}  {}\n",
        application(room, program, helper, "/mnt/disk/data", limit)?,
        options.settings
    ))
}

/// The keys that name scripts and variables of a module.
///
/// # Errors
/// A path that is no text.
pub fn application<'a>(
    room: &Path,
    program: &str,
    helper: &str,
    dir: &str,
    limit: impl Fn(&str) -> &'a str,
) -> Result<String> {
    let room = text(room)?;
    let one = |name: &str| {
        let limit = limit(name);
        format!("{name}: (run: [\"{program}\", \"{name}\"], limit: \"{limit}\")")
    };
    let names = [
        "transition",
        "prestart",
        "start_both",
        "start_prim",
        "start_second",
        "stop_prim",
        "stop_second",
        "stop_both",
        "poststop",
    ];
    let scripts = names.map(one).join(", ");
    Ok(format!(
        "variables: (ROOM: \"{room}\", HELPER: \"{helper}\", DIR: \"{dir}\"),\n  \
         scripts: ({scripts}),\n"
    ))
}

/// What was called on a node since then.
pub(super) fn calls(room: &Path, node: &str, since: u64) -> Result<Vec<Call>> {
    let text = std::fs::read_to_string(room.join("calls")).unwrap_or_default();
    let mut all = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [at, on, script, force, from, to, action, _module] = words[..] else {
            anyhow::bail!("a line of the scripts is broken: {line:?}");
        };
        let at = at.parse().with_context(|| line.to_string())?;
        if on == node && at >= since {
            all.push(Call {
                at,
                script: script.into(),
                force: force == "force",
                from: from.into(),
                to: to.into(),
                action: action.into(),
            });
        }
    }
    Ok(all)
}

/// The names of calls, those by force with a `!`.
pub fn names(calls: &[Call]) -> Vec<String> {
    let name = |c: &Call| format!("{}{}", c.script, if c.force { "!" } else { "" });
    calls.iter().map(name).collect()
}
