"""The stages that are commands, one file each, named as in the stage table (`halobench.storage.layout`).

Each file defines ``run``, whose parameters are the options of ``halobench stage NAME``. What the file's functions
import is the code that the stage's numbers depend on: an edit to any of these modules, or to what they import, reruns
the stage. Imports at the top of the file don't count.
"""

from halobench.core.plugins.kinds import Kind

KIND = Kind("stages", __file__, "run", ())
