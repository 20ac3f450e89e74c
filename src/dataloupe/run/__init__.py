"""Who carries jobs out: this process, or many of them; and how far they are."""

from dataloupe.run._modules import load_module as load_module
from dataloupe.run._processes import Processes as Processes
from dataloupe.run._progress import Progress as Progress
from dataloupe.run._sendable import why_not_sendable as why_not_sendable
from dataloupe.run._serial import Serial as Serial
