//! What the demo shows, in the order in which somebody with a new host would do it.

use std::time::Duration;

use anyhow::{Context, ensure};
use manor_tests::{Api, paths};

use super::console::Console;
use super::outside::{HOST, Outside, SERVER};
use super::place::Place;
use super::{Clock, FILES, RUN};

const DOMAIN: &str = "demo";
const MAC: &str = "52:54:00:0d:e3:00";
const ADDRESS: &str = "192.168.122.10";
const PORT: u16 = 8080;
const IN_IMAGE: &str = "written into the image";
const PAGE: &str = "good day from the guest";
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(90);

pub(super) fn tell(place: &Place, clock: &Clock) -> anyhow::Result<()> {
    clock.say("starting the daemon");
    place.sh(&format!(
        "{FILES}/manor daemon --config {FILES}/manor.toml >{RUN}/daemon.log 2>&1 </dev/null &
         echo $! >{RUN}/daemon.pid"
    ))?;
    let api = Api::on(place.port_here());
    api.await_ready(Duration::from_secs(30))?;
    let story = Story { place, clock, api };
    story.network()?;
    story.volume()?;
    let mut console = story.start()?;
    story.traffic(&mut console)?;
    story.devices(&mut console)?;
    story.plan(&mut console)?;
    story.end()
}

struct Story<'a> {
    place: &'a Place,
    clock: &'a Clock,
    api: Api,
}

impl Story<'_> {
    /// A command as a user types it, with what it prints.
    fn manor(&self, words: &str) -> anyhow::Result<String> {
        println!("$ manor {words}");
        let text = self.place.sh(&format!("{FILES}/manor --connect {RUN}/api.sock {words}"))?;
        if !text.trim().is_empty() {
            println!("{}", text.trim_end());
        }
        Ok(text)
    }

    fn network(&self) -> anyhow::Result<()> {
        self.clock
            .say("the network that every host has, with an address, a name and a port of our own");
        self.manor("net-start default")?;
        let update = |section: &str, xml: &str| {
            self.manor(&format!("net-update default add {section} \"{xml}\" --live --config"))
        };
        update("ip-dhcp-host", &format!("<host mac='{MAC}' name='{DOMAIN}' ip='{ADDRESS}'/>"))?;
        update("dns-host", &format!("<host ip='{SERVER}'><hostname>web.test</hostname></host>"))?;
        update(
            "port-forward",
            &format!(
                "<portForward proto='tcp' to='{ADDRESS}'><range start='{PORT}' to='80'/></portForward>"
            ),
        )?;
        Ok(())
    }

    fn volume(&self) -> anyhow::Result<()> {
        self.clock.say("a pool, an image in it, and on top of that the guest's own volume");
        self.manor(&format!("pool-define-as default dir --target {FILES}/images"))?;
        self.manor("pool-start default --build")?;
        self.place.sh(&format!(
            "truncate -s 32M {FILES}/image.raw
             printf '{IN_IMAGE}' | dd of={FILES}/image.raw bs=1M seek=16 conv=notrunc 2>/dev/null"
        ))?;
        self.manor("vol-create-as default image.raw 32M --allocation 0")?;
        self.manor(&format!("vol-upload image.raw {FILES}/image.raw --pool default"))?;
        self.manor(
            "vol-create-as default demo.qcow2 64M --format qcow2 \
             --backing-vol image.raw --backing-vol-format raw",
        )?;
        self.manor("vol-create-as default more.qcow2 64M --format qcow2")?;
        self.manor("vol-list default --details").map(drop)
    }

    fn start(&self) -> anyhow::Result<Console> {
        let file = paths::workspace().join("resources/examples/demo.xml");
        let xml =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
        let what = "POST /v1/domains with resources/examples/demo.xml";
        let reply = self.api.post_xml("/v1/domains", &xml)?.success().context(what)?;
        self.clock.say(&format!("{what}: HTTP {}", reply.status));
        self.manor("start demo")?;
        self.clock.say("the guest's console, until it has used its disk and its network");
        let mut console = Console::new(self.api.console(DOMAIN)?);
        let text = console.watch(&["MANOR-DISK-OK", "MANOR-DHCP-OK", "MANOR-READY"])?;
        ensure!(text.contains(&format!("{ADDRESS}/24")), "the guest was given another address");
        let image = console.run("dd if=/dev/vda bs=1M skip=16 count=1 2>/dev/null | head -c 22")?;
        ensure!(image.contains(IN_IMAGE), "the image is not below the volume: {image:?}");
        self.manor("list")?;
        self.manor("domifaddr demo")?;
        Ok(console)
    }

    fn traffic(&self, console: &mut Console) -> anyhow::Result<()> {
        self.clock.say(
            "from the guest by name and NAT to a server outside, and from outside to the guest",
        );
        let outside = Outside::begin(self.place)?;
        let greeting = console.run(
            "printf 'GET /cgi-bin/greet HTTP/1.0\\r\\n\\r\\n' | nc -w 20 web.test 80 | tail -n 1",
        )?;
        ensure!(greeting.contains(&format!("good day, {HOST}")), "not as the host: {greeting:?}");
        console.run(&format!("mkdir /www; echo {PAGE} >/www/index.html; httpd -p 80 -h /www"))?;
        let page = outside.fetch(PORT)?;
        println!(
            "outside$ printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {HOST} {PORT}\n{}",
            page.trim_end()
        );
        ensure!(page.contains(PAGE), "another page: {page:?}");
        Ok(())
    }

    fn devices(&self, console: &mut Console) -> anyhow::Result<()> {
        self.clock.say("a disk and a NIC come while it runs, are used, and go");
        let has = |path: &str| format!("until test -e {path}; do usleep 100000; done");
        let lost = |path: &str| format!("while test -e {path}; do usleep 100000; done");
        self.manor(&format!("attach-disk demo {FILES}/images/more.qcow2 vdb --subdriver qcow2"))?;
        console.run(&has("/dev/vdb"))?;
        let text = console.run(
            "echo kept >/tmp/text; dd if=/tmp/text of=/dev/vdb conv=sync,fsync 2>/dev/null; \
             echo 3 >/proc/sys/vm/drop_caches; head -c 5 /dev/vdb",
        )?;
        ensure!(text.contains("kept"), "the new disk does not keep: {text:?}");
        self.manor("detach-disk demo vdb")?;
        console.run(&lost("/dev/vdb"))?;
        self.manor("attach-interface demo network default --mac 52:54:00:0d:e3:01")?;
        console.run(&has("/sys/class/net/eth1"))?;
        let text = console.run(
            "ip link set eth1 up; udhcpc -i eth1 -n -q 2>/dev/null; ip -4 -o addr show dev eth1; \
             ping -c 1 -W 10 -I eth1 192.168.122.1",
        )?;
        ensure!(text.contains("1 packets received"), "nothing by the new NIC: {text:?}");
        self.manor("net-dhcp-leases default")?;
        self.manor("detach-interface demo network --mac 52:54:00:0d:e3:01")?;
        console.run(&lost("/sys/class/net/eth1")).map(drop)
    }

    fn plan(&self, console: &mut Console) -> anyhow::Result<()> {
        self.clock.say("another definition: what would change, and when; then the change");
        let file = format!("{FILES}/changed.xml");
        self.place.sh(&format!(
            "{FILES}/manor --connect {RUN}/api.sock dumpxml demo --inactive |
                 sed -e 's/<currentMemory unit=.KiB.>262144/<currentMemory unit=\"KiB\">196608/' \
                     -e 's/<vcpu\\(.*\\)>2</<vcpu\\1>3</' >{file}"
        ))?;
        let plan = self.manor(&format!("plan {file}"))?;
        // A line each, below those of the heading.
        ensure!(plan.trim().lines().count() == 4, "it says more or less than was changed: {plan}");
        ensure!(plan.contains("live") && plan.contains("next start"), "{plan}");
        let before = memory(console)?;
        self.manor(&format!("apply {file}"))?;
        console.run(&format!(
            "until test $(awk '/MemTotal/ {{ print $2 }}' /proc/meminfo) -lt $(({before}-60000)); \
             do usleep 100000; done; grep MemTotal /proc/meminfo"
        ))?;
        self.manor("dominfo demo")?;
        self.manor("job list").map(drop)
    }

    fn end(&self) -> anyhow::Result<()> {
        self.clock.say("the power button, and everything goes");
        self.manor("shutdown demo")?;
        let state = self.api.await_state(DOMAIN, "shut-off", SHUTDOWN_LIMIT)?;
        let reason = state["reason"].as_str().unwrap_or("?").to_owned();
        self.clock.say(&format!("the guest is shut off (reason: {reason})"));
        self.manor("undefine demo")?;
        let check = self.manor(&format!("image check {FILES}/images/demo.qcow2"))?;
        ensure!(check.contains("No errors"), "{check}");
        self.manor("vol-delete demo.qcow2 --pool default")?;
        self.manor("net-destroy default")?;
        self.manor("list --all").map(drop)
    }
}

/// Of the guest, KiB.
fn memory(console: &mut Console) -> anyhow::Result<u64> {
    let text = console.run("awk '/MemTotal/ { print $2 }' /proc/meminfo")?;
    text.trim().parse().with_context(|| format!("no number: {text:?}"))
}
