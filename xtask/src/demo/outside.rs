//! The world outside of the host: a network namespace behind a pair of interfaces, with a web server that
//! tells its visitors where they come from.

use anyhow::Context;

use super::place::Place;
use super::{FILES, RUN};

const LINK: &str = "manor-demo";
/// Of the documents' own network (RFC 5737), so that nobody real is hidden.
pub(super) const SERVER: &str = "203.0.113.1";
pub(super) const HOST: &str = "203.0.113.2";

pub(super) struct Outside<'a> {
    place: &'a Place,
    /// What lives in it.
    process: u32,
}

impl<'a> Outside<'a> {
    /// It knows no way to the guests' addresses: answers reach the host's alone.
    pub(super) fn begin(place: &'a Place) -> anyhow::Result<Outside<'a>> {
        let busybox = format!("{FILES}/busybox");
        let process = place.sh(&format!(
            "{busybox} ip link add {LINK} type veth
             {busybox} ip addr add {HOST}/24 dev {LINK}
             {busybox} ip link set {LINK} up
             {busybox} unshare -n {busybox} sleep 3600 >/dev/null 2>&1 </dev/null &
             echo $! >{RUN}/outside.pid
             for try in 1 2 3 4 5 6 7 8 9 10; do
                 test \"$(readlink /proc/$!/ns/net)\" = \"$(readlink /proc/self/ns/net)\" || break
                 {busybox} usleep 100000
             done
             for path in /sys/class/net/*; do
                 test \"$(cat $path/ifindex)\" != \"$(cat /sys/class/net/{LINK}/iflink)\" || peer=${{path##*/}}
             done
             {busybox} ip link set $peer netns $!
             in=\"{busybox} nsenter -t $! -n {busybox}\"
             $in ip addr add {SERVER}/24 dev $peer
             $in ip link set $peer up
             mkdir -p {RUN}/www/cgi-bin
             printf '#!/bin/sh\\necho Content-type: text/plain\\necho\\necho good day, $REMOTE_ADDR\\n' \
                 >{RUN}/www/cgi-bin/greet
             chmod +x {RUN}/www/cgi-bin/greet
             $in httpd -p {SERVER}:80 -h {RUN}/www >/dev/null 2>&1 </dev/null
             echo $!"
        ))?;
        let process = process.trim().parse().with_context(|| format!("no process: {process:?}"))?;
        Ok(Outside { place, process })
    }

    /// What somebody out there gets from a port of the host.
    pub(super) fn fetch(&self, port: u16) -> anyhow::Result<String> {
        let busybox = format!("{FILES}/busybox");
        self.place.sh(&format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | \
             {busybox} nsenter -t {} -n {busybox} nc -w 10 {HOST} {port}",
            self.process
        ))
    }

    /// The namespace goes with its last process, and takes the pair of interfaces along.
    pub(super) fn sweep(place: &Place) -> anyhow::Result<()> {
        place
            .sh(&format!(
                "test ! -f {RUN}/outside.pid || {{
                     of=$(readlink /proc/$(cat {RUN}/outside.pid)/ns/net || true)
                     for process in /proc/[0-9]*; do
                         test -z \"$of\" -o \"$(readlink $process/ns/net)\" != \"$of\" || kill ${{process#/proc/}}
                     done
                     rm {RUN}/outside.pid
                 }}
                 test ! -e /sys/class/net/{LINK} || {FILES}/busybox ip link del {LINK}"
            ))
            .map(drop)
    }
}
