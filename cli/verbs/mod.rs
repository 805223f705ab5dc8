//! virsh's verbs, over the API.

mod audit;
mod backup;
mod block_jobs;
mod console;
mod definition;
mod devices;
mod display;
mod domain_job;
mod events;
mod guest;
mod host;
mod host_devices;
mod host_shutdown;
mod import;
mod info;
mod list;
mod media;
mod memory;
mod metadata;
mod network;
mod network_edit;
mod network_ports;
mod node;
mod nwfilter;
mod plan;
mod plug;
mod power;
mod saved;
mod snapshot;
mod stats;
mod storage;
mod token;
mod tuning;
mod user;

use api::client::{Client, ClientError};
pub(crate) use definition::{read_cloud_init, read_document};

use crate::args::Command;
use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) terminal: Terminal,
    /// As the user named it.
    pub(crate) uri: String,
    /// The byte that leaves a console.
    pub(crate) escape: u8,
}

/// Run a verb; `None` if the command is not one.
pub(crate) async fn run(session: &Session, command: Command) -> Option<Result<(), Failure>> {
    let result = match command {
        Command::Autostart(args) => definition::autostart(session, args).await,
        Command::Console(args) => console::console(session, args).await,
        Command::Create(args) => definition::create(session, args).await,
        Command::Define(args) => definition::define(session, args).await,
        Command::Destroy(args) => power::destroy(session, args).await,
        Command::Domdisplay(args) => display::domdisplay(session, args).await,
        Command::Domfsfreeze(args) => guest::domfsfreeze(session, args).await,
        Command::Domfsinfo(args) => guest::domfsinfo(session, args).await,
        Command::Domfsthaw(args) => guest::domfsthaw(session, args).await,
        Command::Domfstrim(args) => guest::domfstrim(session, args).await,
        Command::Domhostname(args) => guest::domhostname(session, args).await,
        Command::Domtime(args) => guest::domtime(session, args).await,
        Command::Guestinfo(args) => guest::guestinfo(session, args).await,
        Command::GuestExec(args) => guest::guest_exec(session, args).await,
        Command::QemuAgentCommand(args) => guest::qemu_agent_command(session, args).await,
        Command::SetUserPassword(args) => guest::set_user_password(session, args).await,
        Command::Domid(args) => info::domid(session, args).await,
        Command::Domname(args) => info::domname(session, args).await,
        Command::Domrename(args) => definition::domrename(session, args).await,
        Command::Domuuid(args) => info::domuuid(session, args).await,
        Command::BackupBegin(args) => backup::begin(session, args).await,
        Command::BackupDumpxml(args) => backup::dumpxml(session, args).await,
        Command::CheckpointCreate(args) => backup::create(session, args).await,
        Command::CheckpointCreateAs(args) => backup::create_as(session, args).await,
        Command::CheckpointDelete(args) => backup::delete(session, args).await,
        Command::CheckpointDumpxml(args) => backup::checkpoint_dumpxml(session, args).await,
        Command::CheckpointEdit(args) => backup::edit(session, args).await,
        Command::CheckpointInfo(args) => backup::info(session, args).await,
        Command::CheckpointList(args) => backup::list(session, args).await,
        Command::CheckpointParent(args) => backup::parent(session, args).await,
        Command::Domjobabort(args) => domain_job::abort(session, args).await,
        Command::Domjobinfo(args) => domain_job::info(session, args).await,
        Command::Clone(args) => saved::clone(session, args).await,
        Command::Dump(args) => saved::dump(session, args).await,
        Command::Dumpxml(args) => definition::dumpxml(session, args).await,
        Command::Event(args) => events::event(session, args).await,
        Command::Reboot(args) => power::reboot(session, args).await,
        Command::Reset(args) => power::reset(session, args).await,
        Command::InjectNmi(args) => power::inject_nmi(session, args).await,
        Command::SetLifecycleAction(args) => power::set_lifecycle_action(session, args).await,
        Command::Desc(args) => metadata::desc(session, args).await,
        Command::Metadata(args) => metadata::metadata(session, args).await,
        Command::Dompmsuspend(args) => guest::dompmsuspend(session, args).await,
        Command::GetUserSshkeys(args) => guest::get_user_sshkeys(session, args).await,
        Command::GuestAgentTimeout(args) => guest::guest_agent_timeout(session, args).await,
        Command::Guestvcpus(args) => guest::guestvcpus(session, args).await,
        Command::SetUserSshkeys(args) => guest::set_user_sshkeys(session, args).await,
        Command::Managedsave(args) => saved::managedsave(session, args).await,
        Command::ManagedsaveDefine(args) => saved::managedsave_define(session, args).await,
        Command::ManagedsaveDumpxml(args) => saved::managedsave_dumpxml(session, args).await,
        Command::ManagedsaveEdit(args) => saved::managedsave_edit(session, args).await,
        Command::ManagedsaveRemove(args) => saved::managedsave_remove(session, args).await,
        Command::Restore(args) => saved::restore(session, args).await,
        Command::Save(args) => saved::save(session, args).await,
        Command::SaveImageCheck(args) => saved::save_image_check(session, args).await,
        Command::SaveImageDefine(args) => saved::save_image_define(session, args).await,
        Command::SaveImageDumpxml(args) => saved::save_image_dumpxml(session, args).await,
        Command::SaveImageEdit(args) => saved::save_image_edit(session, args).await,
        Command::Resume(args) => power::resume(session, args).await,
        Command::Screenshot(args) => display::screenshot(session, args).await,
        Command::SendKey(args) => display::send_key(session, args).await,
        Command::Setmem(args) => memory::setmem(session, args).await,
        Command::Apply(args) => plan::apply(session, args).await,
        Command::Plan(args) => plan::plan(session, args).await,
        Command::AttachDevice(args) => plug::attach_device(session, args).await,
        Command::AttachDisk(args) => plug::attach_disk(session, args).await,
        Command::AttachInterface(args) => plug::attach_interface(session, args).await,
        Command::DetachDevice(args) => plug::detach_device(session, args).await,
        Command::DetachDeviceAlias(args) => plug::detach_device_alias(session, args).await,
        Command::DetachDisk(args) => plug::detach_disk(session, args).await,
        Command::DetachInterface(args) => plug::detach_interface(session, args).await,
        Command::UpdateDevice(args) => plug::update_device(session, args).await,
        Command::ChangeMedia(args) => media::change_media(session, args).await,
        Command::Blockcommit(args) => block_jobs::blockcommit(session, args).await,
        Command::Blockcopy(args) => block_jobs::blockcopy(session, args).await,
        Command::Blockjob(args) => block_jobs::blockjob(session, args).await,
        Command::Blockpull(args) => block_jobs::blockpull(session, args).await,
        Command::Domblkthreshold(args) => media::domblkthreshold(session, args).await,
        Command::Blockresize(args) => media::blockresize(session, args).await,
        Command::Blkdeviotune(args) => tuning::blkdeviotune(session, *args).await,
        Command::Blkiotune(args) => tuning::blkiotune(session, args).await,
        Command::Domiftune(args) => tuning::domiftune(session, args).await,
        Command::Emulatorpin(args) => tuning::emulatorpin(session, args).await,
        Command::Iothreadadd(args) => tuning::iothreadadd(session, args).await,
        Command::Iothreaddel(args) => tuning::iothreaddel(session, args).await,
        Command::Iothreadinfo(args) => tuning::iothreadinfo(session, args).await,
        Command::Iothreadpin(args) => tuning::iothreadpin(session, args).await,
        Command::Numatune(args) => tuning::numatune(session, args).await,
        Command::Memtune(args) => tuning::memtune(session, args).await,
        Command::Schedinfo(args) => tuning::schedinfo(session, args).await,
        Command::Domblkerror(args) => tuning::domblkerror(session, args).await,
        Command::Domblkstat(args) => tuning::domblkstat(session, args).await,
        Command::Domifstat(args) => tuning::domifstat(session, args).await,
        Command::Setmaxmem(args) => tuning::setmaxmem(session, args).await,
        Command::Setvcpu(args) => tuning::setvcpu(session, args).await,
        Command::Setvcpus(args) => tuning::setvcpus(session, args).await,
        Command::Vcpucount(args) => tuning::vcpucount(session, args).await,
        Command::Vcpuinfo(args) => tuning::vcpuinfo(session, args).await,
        Command::Vcpupin(args) => tuning::vcpupin(session, args).await,
        Command::ShutdownGuests(args) => host_shutdown::shutdown_guests(session, args).await,
        Command::Shutdown(args) => power::shutdown(session, args).await,
        Command::SnapshotCreate(args) => snapshot::create(session, args).await,
        Command::SnapshotCreateAs(args) => snapshot::create_as(session, args).await,
        Command::SnapshotCurrent(args) => snapshot::current(session, args).await,
        Command::SnapshotDelete(args) => snapshot::delete(session, args).await,
        Command::SnapshotDumpxml(args) => snapshot::dumpxml(session, args).await,
        Command::SnapshotEdit(args) => snapshot::edit(session, args).await,
        Command::SnapshotInfo(args) => snapshot::info(session, args).await,
        Command::SnapshotList(args) => snapshot::list(session, args).await,
        Command::SnapshotParent(args) => snapshot::parent(session, args).await,
        Command::SnapshotRevert(args) => snapshot::revert(session, args).await,
        Command::Start(args) => power::start(session, args).await,
        Command::Suspend(args) => power::suspend(session, args).await,
        Command::Ttyconsole(args) => devices::ttyconsole(session, args).await,
        Command::Undefine(args) => definition::undefine(session, args).await,
        Command::Vncdisplay(args) => display::vncdisplay(session, args).await,
        Command::Domblkinfo(args) => devices::domblkinfo(session, args).await,
        Command::Domblklist(args) => devices::domblklist(session, args).await,
        Command::DomifGetlink(args) => devices::domif_getlink(session, args).await,
        Command::DomifSetlink(args) => devices::domif_setlink(session, args).await,
        Command::Security(args) => info::security(session, args).await,
        Command::Domifaddr(args) => network::domifaddr(session, args).await,
        Command::Domiflist(args) => devices::domiflist(session, args).await,
        Command::Dominfo(args) => info::dominfo(session, args).await,
        Command::Dommemstat(args) => memory::dommemstat(session, args).await,
        Command::Domstate(args) => info::domstate(session, args).await,
        Command::DomdirtyrateCalc(args) => stats::domdirtyrate_calc(session, args).await,
        Command::Domstats(args) => stats::domstats(session, args).await,
        Command::List(args) => list::list(session, args).await,
        Command::NetAutostart(args) => network::autostart(session, args).await,
        Command::NetCreate(args) => network::create(session, args).await,
        Command::NetDefine(args) => network::define(session, args).await,
        Command::NetDestroy(args) => network::destroy(session, args).await,
        Command::NetDhcpLeases(args) => network::leases(session, args).await,
        Command::NetDumpxml(args) => network::dumpxml(session, args).await,
        Command::NetEdit(args) => network_edit::edit(session, args).await,
        Command::NetEvent(args) => events::network(session, args).await,
        Command::NetInfo(args) => network::info(session, args).await,
        Command::NetList(args) => network::list(session, args).await,
        Command::NetName(args) => network::name(session, args).await,
        Command::NetPortDumpxml(args) => network_ports::dumpxml(session, args).await,
        Command::NetPortInfo(args) => network_ports::info(session, args).await,
        Command::NetPortList(args) => network_ports::list(session, args).await,
        Command::NetStart(args) => network::start(session, args).await,
        Command::NetUndefine(args) => network::undefine(session, args).await,
        Command::NetUpdate(args) => network::update(session, args).await,
        Command::NetUuid(args) => network::uuid(session, args).await,
        Command::IfaceDumpxml(args) => host_devices::iface_dumpxml(session, args).await,
        Command::IfaceList(args) => host_devices::iface_list(session, args).await,
        Command::NodedevDumpxml(args) => host_devices::nodedev_dumpxml(session, args).await,
        Command::NodedevList(args) => host_devices::nodedev_list(session, args).await,
        Command::NwfilterBindingDumpxml(args) => nwfilter::binding_dumpxml(session, args).await,
        Command::NwfilterBindingList => nwfilter::binding_list(session).await,
        Command::NwfilterDefine(args) => nwfilter::define(session, args).await,
        Command::NwfilterDumpxml(args) => nwfilter::dumpxml(session, args).await,
        Command::NwfilterEdit(args) => nwfilter::edit(session, args).await,
        Command::NwfilterList => nwfilter::list(session).await,
        Command::NwfilterUndefine(args) => nwfilter::undefine(session, args).await,
        Command::FindStoragePoolSources(args) => storage::pool::sources(session, args).await,
        Command::PoolCapabilities => storage::pool::capabilities(session).await,
        Command::PoolAutostart(args) => storage::pool::autostart(session, args).await,
        Command::PoolBuild(args) => storage::pool::build(session, args).await,
        Command::PoolCreate(args) => storage::pool::create(session, args).await,
        Command::PoolCreateAs(args) => storage::pool::create_as(session, args).await,
        Command::PoolDefine(args) => storage::pool::define(session, args).await,
        Command::PoolDefineAs(args) => storage::pool::define_as(session, args).await,
        Command::PoolDelete(args) => storage::pool::delete(session, args).await,
        Command::PoolDestroy(args) => storage::pool::destroy(session, args).await,
        Command::PoolDumpxml(args) => storage::pool::dumpxml(session, args).await,
        Command::PoolInfo(args) => storage::pool::info(session, args).await,
        Command::PoolList(args) => storage::pool::list(session, args).await,
        Command::PoolName(args) => storage::pool::name(session, args).await,
        Command::PoolRefresh(args) => storage::pool::refresh(session, args).await,
        Command::PoolStart(args) => storage::pool::start(session, args).await,
        Command::PoolUndefine(args) => storage::pool::undefine(session, args).await,
        Command::PoolUuid(args) => storage::pool::uuid(session, args).await,
        Command::VolClone(args) => storage::volume::clone(session, args).await,
        Command::VolCreate(args) => storage::volume::create(session, args).await,
        Command::VolCreateAs(args) => storage::volume::create_as(session, args).await,
        Command::VolCreateFrom(args) => storage::volume::create_from(session, args).await,
        Command::VolDelete(args) => storage::volume::delete(session, args).await,
        Command::VolDownload(args) => storage::transfer::download(session, args).await,
        Command::VolDumpxml(args) => storage::volume::dumpxml(session, args).await,
        Command::VolInfo(args) => storage::volume::info(session, args).await,
        Command::VolKey(args) => storage::volume::path(session, args).await,
        Command::VolList(args) => storage::volume::list(session, args).await,
        Command::VolName(args) => storage::volume::name(session, args).await,
        Command::VolPath(args) => storage::volume::path(session, args).await,
        Command::VolPool(args) => storage::volume::pool(session, args).await,
        Command::VolResize(args) => storage::volume::resize(session, args).await,
        Command::VolUpload(args) => storage::transfer::upload(session, args).await,
        Command::VolUsers(args) => storage::users::users(session, args).await,
        Command::VolWipe(args) => storage::volume::wipe(session, args).await,
        Command::Audit(args) => audit::audit(session, args).await,
        Command::Token(args) => token::token(session, args).await,
        Command::User(args) => user::user(session, args).await,
        Command::Import(args) => import::import(session, args).await,
        Command::Job(args) => storage::job::job(session, args).await,
        Command::Allocpages(args) => host::allocpages(session, args).await,
        Command::Capabilities => node::capabilities(session).await,
        Command::CpuBaseline(args) => host::cpu_baseline(session, args).await,
        Command::CpuCompare(args) => host::cpu_compare(session, args).await,
        Command::Freecell(args) => host::freecell(session, args).await,
        Command::Freepages(args) => host::freepages(session, args).await,
        Command::Hostname => node::hostname(session).await,
        Command::NodeMemoryTune(args) => host::node_memory_tune(session, args).await,
        Command::Nodecpustats(args) => node::cpu_stats(session, args).await,
        Command::Nodememstats => node::memory_stats(session).await,
        Command::Nodeinfo => node::nodeinfo(session).await,
        Command::Sysinfo => host::sysinfo(session).await,
        Command::Uri => node::uri(session).await,
        Command::Version(args) => node::version(session, args).await,
        _ => return None,
    };
    Some(result)
}

impl Session {
    /// Name the domain that was not found as virsh does; anything else stays as it is.
    async fn of<T>(
        &self,
        domain: &str,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        match call.await {
            Ok(reply) => Ok(reply),
            Err(error) if is(&error, "not-found") => Err(self.no_such(domain).await),
            Err(error) => Err(error.into()),
        }
    }

    async fn no_such(&self, domain: &str) -> Failure {
        let failure = Failure::new(Exit::NotFound, format!("failed to get domain '{domain}'"));
        match self.client.list(&api::types::ListQuery::default()).await {
            Ok(all) if !self.terminal.as_virsh => {
                failure.hint_near(domain, all.into_iter().map(|domain| domain.name))
            }
            _ => failure,
        }
    }
}

/// Whether the daemon refused with this code.
fn is(error: &ClientError, code: &str) -> bool {
    matches!(error, ClientError::Refused(problem) if problem.code() == code)
}
