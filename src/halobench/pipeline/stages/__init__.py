"""The stages that are commands, one file each, named as in the stage table (`halobench.storage.layout`).

Each file defines ``run``, whose parameters are the options of ``halobench stage NAME``, and ``CODE``, a tuple of the
modules of the package (``calibration.calibrate_cell``) on which the stage's numbers depend: an edit to any of them, or
to what they import, reruns the stage. The file's own imports don't count, wherever they stand.
"""

from halobench.core.plugins.kinds import Kind

KIND = Kind("stages", __file__, "run", ("CODE",))
