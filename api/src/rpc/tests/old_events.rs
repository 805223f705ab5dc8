//! Events as clients registered for them before callbacks had numbers.

use management::ops::DefineDomain;

use super::super::protocol::object::Domain;
use super::*;

const REGISTER: i32 = 105;
const DEREGISTER: i32 = 106;
const LIFECYCLE: i32 = 107;
const REGISTER_ANY: i32 = 167;
const DEREGISTER_ANY: i32 = 168;
const CALLBACK_LIFECYCLE: i32 = 318;

fn int(answer: &Packet) -> i32 {
    i32::decode(&mut Decoder::new(&answer.payload)).unwrap()
}

#[tokio::test]
async fn old_and_new_registrations_are_told_in_their_own_ways() {
    let (mut client, manager) = Client::with(Auth::None, Access::Admin).await;
    client.call(OPEN, &(Some("qemu:///system"), 0)).await;
    assert_eq!(int(&client.call(REGISTER, &()).await), 1);
    let nothing: Option<String> = None;
    let number = int(&client.call(REGISTER_CALLBACK, &(0, nothing)).await);
    assert_eq!(client.refused(REGISTER_ANY, &0).await.0, 8, "it is registered already");
    assert_eq!(client.refused(REGISTER_ANY, &16).await.0, 8, "there was no such event");
    let xml = "<domain type='kvm'><name>web</name><memory unit='MiB'>64</memory>\
               <os><type>hvm</type><kernel>/nonexistent</kernel></os></domain>";
    let define = DefineDomain { xml: xml.to_owned(), cloud_init: None, check_only: false };
    manager.call(&Caller::new("test", Access::Admin), define).await.unwrap();
    let mut old = None;
    let mut new = None;
    while old.is_none() || new.is_none() {
        let told = client.next().await;
        let mut payload = Decoder::new(&told.payload);
        match told.header.procedure {
            LIFECYCLE => old = Some(<(Domain, i32, i32)>::decode(&mut payload).unwrap()),
            CALLBACK_LIFECYCLE => {
                new = Some(<(i32, Domain, i32, i32)>::decode(&mut payload).unwrap());
            }
            other => panic!("{other}"),
        }
    }
    let ((domain, event, detail), new) = (old.unwrap(), new.unwrap());
    assert_eq!((domain.name.as_str(), event, detail), ("web", 0, 0));
    assert_eq!((new.0, new.1.uuid, new.2, new.3), (number, domain.uuid, 0, 0));
    assert_eq!(int(&client.call(DEREGISTER, &()).await), 0);
    assert_eq!(client.refused(DEREGISTER, &()).await.0, 8);
    assert_eq!(client.call(REGISTER_ANY, &1).await.header.status, Status::Ok);
    assert_eq!(client.call(DEREGISTER_ANY, &1).await.header.status, Status::Ok);
}
