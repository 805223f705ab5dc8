//! What holds whatever clients send.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        start in proptest::collection::vec(any::<u8>(), 0..600),
        options in proptest::collection::vec(any::<u8>(), 0..300),
        kind in 0u8..10,
    ) {
        let mut server = server(10, 20);
        server.handle(&start, NOW);
        let mut packet = guest(1).packet(Kind::Discover);
        packet.truncate(FIXED);
        packet.extend([code::TYPE, 1, kind]);
        packet.extend(options);
        server.handle(&packet, NOW);
    }

    #[test]
    fn no_two_clients_hold_one_address(
        steps in proptest::collection::vec((0u8..9, 0u8..5, 8u8..18, 0u64..2000), 1..120)
    ) {
        let hosts = json!([{ "mac": "52:54:00:00:00:03", "address": "192.168.7.12" }]);
        let mut server = server_of(json!({
            "ranges": [{ "start": "192.168.7.10", "end": "192.168.7.15", "lease_seconds": 900 }],
            "hosts": hosts,
        }));
        // What each client was told it may use, and until when.
        let mut told: BTreeMap<u8, (Ipv4Addr, u64)> = BTreeMap::new();
        let mut now = NOW;
        for (who, what, last, pause) in steps {
            now += pause / 4;
            let kind = [Kind::Discover, Kind::Request, Kind::Request, Kind::Release, Kind::Decline];
            let kind = kind[usize::from(what)];
            let message = match what {
                0 => guest(who),
                1 => guest(who).take(at(last)),
                2 => guest(who).using(at(last)),
                3 => match told.remove(&who) {
                    Some((address, _)) => guest(who).using(address),
                    None => guest(who).using(at(last)),
                },
                _ => {
                    if told.get(&who).is_some_and(|(address, _)| *address == at(last)) {
                        told.remove(&who);
                    }
                    guest(who).take(at(last))
                }
            };
            let Some(answer) = message.send(&mut server, kind, now) else { continue };
            if answer.kind == Kind::Nak as u8 {
                told.remove(&who);
            }
            if answer.kind == Kind::Ack as u8 {
                let clash = told.iter().find(|(other, (address, until))| {
                    **other != who && *address == answer.address && *until > now
                });
                prop_assert!(clash.is_none(), "{} for {who} and {clash:?}", answer.address);
                prop_assert!(answer.address != at(12) || who == 3);
                told.insert(who, (answer.address, now + 900));
            }
        }
        let live = told.values().filter(|(_, until)| *until > now).count();
        // Who was refused something else forgets its lease; the server does not.
        prop_assert!(server.live_leases(now) >= live);
    }
}
