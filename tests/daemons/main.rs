//! Manor's daemon beside libvirt's, both on this machine, asked the same by the same client in turns.
//! `cargo xtask bench api` measures; here the bounds are wide, for machines that are busy with other tests.

#![allow(clippy::print_stdout, reason = "a test that cannot run says so, and others what they saw")]

use std::time::{Duration, Instant};

use manor_tests::KvmLevel;
use manor_tests::libvirt_raw::{Call, RawClient, definition};
use manor_tests::libvirt_server::Libvirtd;
use manor_tests::manor_server::ManorServer;

const DOMAINS: usize = 300;

/// The least of many: what one took that nothing interrupted.
fn least(
    turns: usize,
    [ours, theirs]: [&mut RawClient; 2],
    mut act: impl FnMut(&mut RawClient),
) -> [Duration; 2] {
    let mut timed = |client: &mut RawClient| {
        let begun = Instant::now();
        act(client);
        begun.elapsed()
    };
    (0..turns).fold([Duration::MAX; 2], |[least_ours, least_theirs], _| {
        [least_ours.min(timed(ours)), least_theirs.min(timed(theirs))]
    })
}

#[test]
fn what_is_asked_of_many_domains_is_answered_no_slower_than_by_libvirt() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: libvirt's daemon needs root");
        return Ok(());
    }
    if let Some(skip) = KvmLevel::BareMetal.lacking() {
        println!("{skip}");
        return Ok(());
    }
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let (manor, libvirtd) = (ManorServer::start(dirs[0].path())?, Libvirtd::start(dirs[1].path())?);
    let mut ours = RawClient::connect(manor.socket())?;
    let mut theirs = RawClient::connect(&libvirtd.socket())?;
    for index in 0..DOMAINS {
        let define = Call::define(&definition(&format!("guest-{index}")));
        ours.define(&define)?;
        theirs.define(&define)?;
    }
    assert_eq!([ours.count()?, theirs.count()?], [DOMAINS; 2]);

    let mut within = |what: &str, call: &Call, times: f64| {
        let [manor, libvirtd] = least(200, [&mut ours, &mut theirs], |client| {
            client.ask(call).unwrap();
        });
        println!("{what}: Manor {manor:?}, libvirtd {libvirtd:?}");
        assert!(manor.as_secs_f64() <= times * libvirtd.as_secs_f64(), "{what}");
    };
    within("a list of all", &Call::list(), 1.0);
    within("statistics of all", &Call::stats(), 0.5);
    within("a lookup", &Call::lookup("guest-7"), 2.0);

    let define = Call::define(&definition("guest-more"));
    let [manor, libvirtd] = least(50, [&mut ours, &mut theirs], |client| {
        let domain = client.define(&define).unwrap();
        client.undefine(&domain).unwrap();
    });
    println!("define and undefine: Manor {manor:?}, libvirtd {libvirtd:?}");
    assert!(manor <= 3 * libvirtd, "define and undefine");
    Ok(())
}
