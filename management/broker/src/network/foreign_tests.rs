//! Rules of other programs, made by nft(8), and what is found of them.

use super::tests::{Lab, within};
use super::{ForeignChain, ForeignHook, foreign};

const DOCKER: &str = "table ip filter {
    chain DOCKER-USER {
    }
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        jump DOCKER-USER
    }
    chain INPUT {
        type filter hook input priority 0; policy accept;
    }
}
table inet fw {
    chain passage {
        type filter hook forward priority 10; policy accept;
        ct state established accept
        log prefix \"no \" counter reject with icmpx admin-prohibited
    }
    chain arrival {
        type filter hook input priority 10; policy accept;
        tcp dport 22 drop
    }
}
table inet manor {
    chain other {
        type filter hook forward priority 5; policy drop;
    }
}
";

fn nft(arguments: &[&str]) {
    // Outside every namespace of the tests it may have to be fetched.
    let output = manor_tests::tools::nft().unwrap().command().args(arguments).output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}: {output:?}");
}

fn named(found: &[ForeignChain], chain: &str) -> Option<ForeignChain> {
    found.iter().find(|it| it.chain == chain).cloned()
}

#[test]
fn chains_that_drop_what_they_do_not_know_are_found_with_what_they_let_through() {
    manor_tests::tools::nft().unwrap();
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || {
        assert_eq!(foreign("manor").unwrap(), []);
        nft(&[DOCKER]);
        let found = foreign("manor").unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let docker = named(&found, "FORWARD").unwrap();
        assert_eq!((docker.family.as_str(), docker.table.as_str()), ("ip", "filter"));
        assert_eq!((docker.hook, docker.priority), (ForeignHook::Forward, 0));
        assert!(docker.by_policy && docker.has_docker && docker.knows_in.is_empty());
        let reject = named(&found, "passage").unwrap();
        assert!(reject.by_rule && !reject.by_policy && reject.priority == 10, "{reject:?}");

        nft(&["add rule ip filter DOCKER-USER iifname \"virbr7\" accept"]);
        nft(&["add rule ip filter DOCKER-USER oifname \"virbr7\" accept"]);
        nft(&["add rule ip filter DOCKER-USER iifname \"virbr8\" drop"]);
        let docker = named(&foreign("manor").unwrap(), "FORWARD").unwrap();
        assert!(docker.knows_in.contains("virbr7") && docker.knows_out.contains("virbr7"));
        assert!(!docker.knows_in.contains("virbr8"), "that is dropped: {docker:?}");
        nft(&["flush ruleset"]);
        assert_eq!(foreign("manor").unwrap(), []);
    });
}
