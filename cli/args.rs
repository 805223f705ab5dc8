//! The command line: verbs, options and what they mean. virsh's words where virsh has the verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::access::*;
pub(crate) use self::backup::*;
pub(crate) use self::block_jobs::*;
pub(crate) use self::guest::*;
pub(crate) use self::host::*;
pub(crate) use self::host_devices::*;
pub(crate) use self::import::*;
pub(crate) use self::lifecycle::*;
pub(crate) use self::media::*;
pub(crate) use self::metadata::*;
pub(crate) use self::monitor::*;
pub(crate) use self::network::*;
pub(crate) use self::own::*;
pub(crate) use self::plan::*;
pub(crate) use self::plug::*;
pub(crate) use self::pool::*;
pub(crate) use self::saved::*;
pub(crate) use self::snapshot::*;
pub(crate) use self::tuning::*;
pub(crate) use self::volume::*;
pub(crate) use crate::disk_image::Image;

mod access;
mod backup;
mod block_jobs;
mod guest;
mod host;
mod host_devices;
mod import;
mod lifecycle;
mod media;
mod metadata;
mod monitor;
mod network;
mod own;
mod plan;
mod plug;
mod pool;
mod saved;
mod snapshot;
mod tuning;
mod volume;

/// Virtual machines of this host, from libvirt domain XML.
#[derive(Debug, Parser)]
#[command(
    name = "manor",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    subcommand_help_heading = "Commands",
    after_help = "'manor help' lists the commands by group, 'manor help COMMAND' explains one."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Heads, in the help, what each command takes beside its own.
const EVERYWHERE: &str = "With every command";
/// Heads what belongs to connections of https.
const TLS: &str = "Over https";

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Daemon to talk to: a socket's path, https://HOST:PORT or qemu:///system.
    /// Else MANOR_URI, else LIBVIRT_DEFAULT_URI
    #[arg(short, long, value_name = "URI", help_heading = EVERYWHERE, global = true)]
    pub(crate) connect: Option<String>,
    /// File with the token to come in by over https; else MANOR_TOKEN holds it
    #[arg(long, value_name = "FILE", help_heading = TLS, global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates of who may have signed that of the daemon; the system's otherwise
    #[arg(long, value_name = "FILE", env = "MANOR_CA", hide_env_values = true, help_heading = TLS, global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// Own certificate, to come in by over https
    #[arg(long, value_name = "FILE", env = "MANOR_CERT", hide_env_values = true, help_heading = TLS, global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// Key of the own certificate
    #[arg(long, value_name = "FILE", env = "MANOR_KEY", hide_env_values = true, help_heading = TLS, global = true)]
    pub(crate) key: Option<PathBuf>,
    /// Print results only: no headers, no messages
    #[arg(short, long, help_heading = EVERYWHERE, global = true)]
    pub(crate) quiet: bool,
    /// Connect read-only
    #[arg(short, long, help_heading = EVERYWHERE, global = true)]
    pub(crate) readonly: bool,
    /// Print JSON
    #[arg(long, help_heading = EVERYWHERE, global = true)]
    pub(crate) json: bool,
    /// Print no colours
    #[arg(long, help_heading = EVERYWHERE, global = true)]
    pub(crate) no_color: bool,
    /// Key that leaves a console
    #[arg(short, long, value_name = "CHAR", default_value = "^]", global = true, hide = true)]
    pub(crate) escape: String,
    /// virsh's tuning of its own connection, which Manor does without
    #[arg(short, long, value_name = "NUM", global = true, hide = true)]
    pub(crate) debug: Option<u32>,
    #[arg(short, long, value_name = "NUM", global = true, hide = true)]
    pub(crate) keepalive_interval: Option<u32>,
    #[arg(short = 'K', long, value_name = "NUM", global = true, hide = true)]
    pub(crate) keepalive_count: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// give a domain the definition of an XML file, at once where that can be
    Apply(Plan),
    /// attach device from an XML file
    AttachDevice(DeviceFile),
    /// attach disk device
    AttachDisk(AttachDisk),
    /// attach network interface
    AttachInterface(AttachInterface),
    /// autostart a domain
    Autostart(Autostart),
    /// Set or query a block device I/O tuning parameters.
    Blkdeviotune(Box<Blkdeviotune>),
    /// Get or set blkio parameters
    Blkiotune(Blkiotune),
    /// Start a block commit operation.
    Blockcommit(Blockcommit),
    /// Start a block copy operation.
    Blockcopy(Blockcopy),
    /// Manage active block operations
    Blockjob(Blockjob),
    /// Populate a disk from its backing image.
    Blockpull(Blockpull),
    /// resize block device of domain
    Blockresize(Blockresize),
    /// Change media of CD or floppy drive
    ChangeMedia(ChangeMedia),
    /// connect to the guest console
    Console(Console),
    /// create a domain from an XML file
    Create(Create),
    /// define (but don't start) a domain from an XML file
    Define(Define),
    /// show or set domain's description or title
    Desc(Desc),
    /// destroy (stop) a domain
    Destroy(Destroy),
    /// detach device from an XML file
    DetachDevice(DeviceFile),
    /// detach device from an alias
    DetachDeviceAlias(DetachDeviceAlias),
    /// detach disk device
    DetachDisk(DetachDisk),
    /// detach network interface
    DetachInterface(DetachInterface),
    /// domain display connection URI
    Domdisplay(Domdisplay),
    /// Freeze domain's mounted filesystems.
    Domfsfreeze(Domfsfreeze),
    /// Thaw domain's mounted filesystems.
    Domfsthaw(Domain),
    /// Get information of domain's mounted filesystems.
    Domfsinfo(Domain),
    /// Invoke fstrim on domain's mounted filesystems.
    Domfstrim(Domfstrim),
    /// print the domain's hostname
    Domhostname(Domhostname),
    /// domain time
    Domtime(Domtime),
    /// query information about the guest (via agent)
    Guestinfo(Guestinfo),
    /// run a program in the guest (via agent)
    GuestExec(GuestExec),
    /// set the guest agent timeout
    GuestAgentTimeout(GuestAgentTimeout),
    /// query or modify state of vcpu in the guest (via agent)
    Guestvcpus(Guestvcpus),
    /// list authorized SSH keys for given user (via agent)
    GetUserSshkeys(GetUserSshkeys),
    /// manipulate authorized SSH keys file for given user (via agent)
    SetUserSshkeys(SetUserSshkeys),
    /// have a guest sleep on its own disk (via agent)
    Dompmsuspend(Dompmsuspend),
    /// Inject NMI to the guest
    InjectNmi(Domain),
    /// show or set domain's custom XML metadata
    Metadata(Metadata),
    /// change lifecycle actions
    SetLifecycleAction(SetLifecycleAction),
    /// QEMU Guest Agent Command
    QemuAgentCommand(QemuAgentCommand),
    /// set the user password inside the domain
    SetUserPassword(SetUserPassword),
    /// convert a domain name or UUID to domain id
    Domid(Domain),
    /// set link state of a virtual interface
    DomifSetlink(DomifSetlink),
    /// get/set parameters of a virtual interface
    Domiftune(Domiftune),
    /// abort active domain job
    Domjobabort(Domain),
    /// domain job information
    Domjobinfo(Domjobinfo),
    /// convert a domain id or UUID to domain name
    Domname(Domain),
    /// rename a domain
    Domrename(Domrename),
    /// convert a domain name or id to domain UUID
    Domuuid(Domain),
    /// Start a disk backup of a live domain
    BackupBegin(BackupBegin),
    /// Dump XML for an ongoing domain block backup job
    BackupDumpxml(Domain),
    /// Create a checkpoint from XML
    CheckpointCreate(CheckpointCreate),
    /// Create a checkpoint from a set of args
    CheckpointCreateAs(CheckpointCreateAs),
    /// Delete a domain checkpoint
    CheckpointDelete(CheckpointDelete),
    /// Dump XML for a domain checkpoint
    CheckpointDumpxml(CheckpointDumpxml),
    /// edit XML for a checkpoint
    CheckpointEdit(Checkpoint),
    /// checkpoint information
    CheckpointInfo(Checkpoint),
    /// List checkpoints for a domain
    CheckpointList(CheckpointList),
    /// Get the name of the parent of a checkpoint
    CheckpointParent(Checkpoint),
    /// make a twin of a domain, with disks of its own; of one that runs, it goes on
    Clone(CloneDomain),
    /// dump the core of a domain to a file for analysis
    Dump(Dump),
    /// domain information in XML
    Dumpxml(Dumpxml),
    /// control or query domain emulator affinity
    Emulatorpin(Emulatorpin),
    /// Domain Events
    Event(Event),
    /// view domain IOThreads
    Iothreadinfo(Iothreadinfo),
    /// control domain IOThread affinity
    Iothreadpin(Iothreadpin),
    /// add an IOThread to the guest domain
    Iothreadadd(IothreadId),
    /// delete an IOThread from the guest domain
    Iothreaddel(IothreadId),
    /// Get or set memory parameters
    Memtune(Memtune),
    /// Get or set numa parameters
    Numatune(Numatune),
    /// show what the definition of an XML file would change, and when
    Plan(Plan),
    /// managed save of a domain state
    Managedsave(Managedsave),
    /// redefine the XML for a domain's managed save state file
    ManagedsaveDefine(ManagedsaveDefine),
    /// domain information of managed save state file in XML
    ManagedsaveDumpxml(SavedDump),
    /// edit XML for a domain's managed save state file
    ManagedsaveEdit(ManagedsaveEdit),
    /// remove managed save of a domain
    ManagedsaveRemove(Domain),
    /// reboot a domain
    Reboot(Ask),
    /// reset a domain
    Reset(Domain),
    /// restore a domain from a saved state in a file
    Restore(Restore),
    /// resume a domain
    Resume(Domain),
    /// save a domain state to a file
    Save(Save),
    /// compare the checksums of a saved state's memory
    SaveImageCheck(SaveImage),
    /// redefine the XML for a domain's saved state file
    SaveImageDefine(SaveImageDefine),
    /// saved state domain information in XML
    SaveImageDumpxml(SavedDump),
    /// edit XML for a domain's saved state file
    SaveImageEdit(SaveImageEdit),
    /// show/set scheduler parameters
    Schedinfo(Schedinfo),
    /// gracefully shutdown a domain
    Shutdown(Ask),
    /// shut all guests down, the last of the start order first, as when the host goes down
    ShutdownGuests(ShutdownGuests),
    /// take a screenshot of a current domain console and store it into a file
    Screenshot(Screenshot),
    /// send keycodes to the guest
    SendKey(SendKey),
    /// change maximum memory limit
    Setmaxmem(Setmaxmem),
    /// change memory allocation
    Setmem(Setmem),
    /// attach/detach vcpu or groups of threads
    Setvcpu(Setvcpu),
    /// change number of virtual CPUs
    Setvcpus(Setvcpus),
    /// create a snapshot from XML
    SnapshotCreate(SnapshotCreate),
    /// create a snapshot from a set of args
    SnapshotCreateAs(SnapshotCreateAs),
    /// get or set the current snapshot
    SnapshotCurrent(SnapshotCurrent),
    /// delete a domain snapshot
    SnapshotDelete(SnapshotDelete),
    /// dump XML for a domain snapshot
    SnapshotDumpxml(SnapshotDumpxml),
    /// edit XML for a snapshot
    SnapshotEdit(SnapshotEdit),
    /// snapshot information
    SnapshotInfo(SnapshotOne),
    /// list snapshots for a domain
    SnapshotList(SnapshotList),
    /// get the name of the parent of a snapshot
    SnapshotParent(SnapshotOne),
    /// revert a domain to a snapshot
    SnapshotRevert(SnapshotRevert),
    /// start a (previously defined) inactive domain
    Start(Start),
    /// suspend a domain
    Suspend(Domain),
    /// tty console
    Ttyconsole(Domain),
    /// undefine a domain
    Undefine(Undefine),
    /// update device from an XML file
    UpdateDevice(DeviceFile),
    /// detailed domain vcpu information
    Vcpuinfo(Domain),
    /// domain vcpu counts
    Vcpucount(Vcpucount),
    /// control or query domain vcpu affinity
    Vcpupin(Vcpupin),
    /// vnc display
    Vncdisplay(Domain),

    /// show errors on block devices
    Domblkerror(Domain),
    /// get device block stats for a domain
    Domblkstat(Domblkstat),
    /// get network interface stats for a domain
    Domifstat(Domifstat),
    /// list all domain blocks
    Domblklist(Domblklist),
    /// domain block device size information
    Domblkinfo(Domblkinfo),
    /// get link state of a virtual interface
    DomifGetlink(DomifGetlink),
    /// get network interfaces' addresses for a running domain
    Domifaddr(Domifaddr),
    /// list all domain virtual interfaces
    Domiflist(Domiflist),
    /// domain information
    Dominfo(Domain),
    /// get memory statistics for a domain
    Dommemstat(Dommemstat),
    /// set the threshold for block-threshold event for a given block device or its backing chain element
    Domblkthreshold(Domblkthreshold),
    /// calculate a vm's memory dirty rate
    DomdirtyrateCalc(DomdirtyrateCalc),
    /// domain state
    Domstate(Domstate),
    /// get statistics about one or multiple domains
    Domstats(Domstats),
    /// list domains
    List(List),
    /// what the process of a running domain may do
    Security(Domain),

    /// autostart a network
    NetAutostart(NetAutostart),
    /// create a network from an XML file
    NetCreate(NetFile),
    /// define an inactive persistent virtual network or modify an existing persistent one from an XML file
    NetDefine(NetFile),
    /// destroy (stop) a network
    NetDestroy(Network),
    /// print lease info for a given network
    NetDhcpLeases(NetDhcpLeases),
    /// network information in XML
    NetDumpxml(NetDumpxml),
    /// edit XML configuration for a network
    NetEdit(Network),
    /// network events
    NetEvent(NetEvent),
    /// network information
    NetInfo(Network),
    /// list networks
    NetList(NetList),
    /// convert a network UUID to network name
    NetName(Network),
    /// network port information in XML
    NetPortDumpxml(NetPort),
    /// whose interface a network port is
    NetPortInfo(NetPort),
    /// list network ports
    NetPortList(NetPortList),
    /// start a (previously defined) inactive network
    NetStart(Network),
    /// undefine a persistent network
    NetUndefine(Network),
    /// update parts of an existing network's configuration
    NetUpdate(NetUpdate),
    /// convert a network name to network UUID
    NetUuid(Network),

    /// physical host interface information in XML
    IfaceDumpxml(IfaceDumpxml),
    /// list physical host interfaces
    IfaceList(IfaceList),
    /// node device details in XML
    NodedevDumpxml(NodedevDumpxml),
    /// enumerate devices on this host
    NodedevList(NodedevList),
    /// define or update a network filter from an XML file
    NwfilterDefine(NwfilterDefine),
    /// network filter information in XML
    NwfilterDumpxml(Nwfilter),
    /// edit XML configuration for a network filter
    NwfilterEdit(Nwfilter),
    /// list network filters
    NwfilterList,
    /// undefine a network filter
    NwfilterUndefine(Nwfilter),
    /// network filter information in XML
    NwfilterBindingDumpxml(NwfilterBindingDumpxml),
    /// list network filter bindings
    NwfilterBindingList,

    /// find potential storage pool sources
    FindStoragePoolSources(FindStoragePoolSources),
    /// storage pool capabilities
    PoolCapabilities,
    /// autostart a pool
    PoolAutostart(PoolAutostart),
    /// build a pool
    PoolBuild(PoolBuild),
    /// create a pool from an XML file
    PoolCreate(PoolCreate),
    /// create a pool from a set of args
    PoolCreateAs(PoolCreateAs),
    /// define an inactive persistent storage pool or modify an existing persistent one from an XML file
    PoolDefine(PoolDefine),
    /// define a pool from a set of args
    PoolDefineAs(PoolDefineAs),
    /// delete a pool
    PoolDelete(Pool),
    /// destroy (stop) a pool
    PoolDestroy(Pool),
    /// pool information in XML
    PoolDumpxml(PoolDumpxml),
    /// storage pool information
    PoolInfo(PoolInfo),
    /// list pools
    PoolList(PoolList),
    /// convert a pool UUID to pool name
    PoolName(Pool),
    /// refresh a pool
    PoolRefresh(Pool),
    /// start a (previously defined) inactive pool
    PoolStart(PoolStart),
    /// undefine an inactive pool
    PoolUndefine(Pool),
    /// convert a pool name to pool UUID
    PoolUuid(Pool),

    /// clone a volume
    VolClone(VolClone),
    /// create a vol from an XML file
    VolCreate(VolCreate),
    /// create a volume from a set of args
    VolCreateAs(VolCreateAs),
    /// create a vol, using another volume as input
    VolCreateFrom(VolCreateFrom),
    /// delete a vol
    VolDelete(VolDelete),
    /// download volume contents to a file
    VolDownload(VolTransfer),
    /// vol information in XML
    VolDumpxml(Volume),
    /// storage vol information
    VolInfo(VolInfo),
    /// returns the volume key for a given volume name or path
    VolKey(Volume),
    /// list vols
    VolList(VolList),
    /// returns the volume name for a given volume key or path
    VolName(Volume),
    /// returns the volume path for a given volume name or key
    VolPath(Volume),
    /// returns the storage pool for a given volume key or path
    VolPool(VolPool),
    /// resize a vol
    VolResize(VolResize),
    /// upload file contents to a volume
    VolUpload(VolTransfer),
    /// say who needs a volume, or any other image
    VolUsers(Volume),
    /// wipe a vol
    VolWipe(VolWipe),

    /// Manipulate pages pool size
    Allocpages(Allocpages),
    /// capabilities
    Capabilities,
    /// compute baseline CPU
    CpuBaseline(CpuBaseline),
    /// compare host CPU with a CPU described by an XML file
    CpuCompare(CpuCompare),
    /// NUMA free memory
    Freecell(Freecell),
    /// NUMA free pages
    Freepages(Freepages),
    /// print the hypervisor hostname
    Hostname,
    /// Get or set node memory parameters
    NodeMemoryTune(NodeMemoryTune),
    /// Prints cpu stats of the node.
    Nodecpustats(Nodecpustats),
    /// node information
    Nodeinfo,
    /// Prints memory stats of the node.
    Nodememstats,
    /// print the hypervisor sysinfo
    Sysinfo,
    /// print the hypervisor canonical URI
    Uri,
    /// show version
    Version(Version),

    /// print help
    Help(Help),

    /// print who did what
    Audit(Audit),
    /// run the management daemon
    Daemon(Daemon),
    /// look after the daemon's configuration file
    #[command(subcommand)]
    Config(Config),
    /// say what this host can do for guests, and why not when it can't
    HostCheck,
    /// look at, make, copy and mend disk images
    #[command(subcommand)]
    Image(Image),
    /// take over what another virtualisation has on this host
    #[command(subcommand)]
    Import(Import),
    /// list, watch and abort long work
    #[command(subcommand)]
    Job(Job),
    /// run a domain in the foreground, without a daemon
    Run(Run),
    /// let others in over TLS: make, list and revoke tokens
    #[command(subcommand)]
    Token(Token),
    /// let libvirt's clients in by passwords: make, list and remove users
    #[command(subcommand)]
    User(User),
    /// connect stdin and stdout to the daemon, for libvirt's clients that come by ssh
    VirtSshHelper(SshHelper),
    /// install systemd units, group, directories and configuration, or remove them
    Setup(Setup),
    /// print a shell's completion script
    Completion(Completion),
    /// write the manual pages
    #[command(hide = true)]
    Man(Man),
}

/// Verbs of Manor's own; the others are read the way virsh reads them.
pub(crate) const NATIVE: &[&str] = &[
    "audit",
    "daemon",
    "config",
    "host-check",
    "image",
    "import",
    "job",
    "run",
    "setup",
    "token",
    "user",
    "virt-ssh-helper",
    "completion",
    "man",
];
