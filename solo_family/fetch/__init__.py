"""Find the configs and weights that a name stands for: of the zoo, the Hub, an address, a path.

`names` is the way in. A name is

    zoo:SOLOv2/solov2_R50_3x.yaml    a config of the package, with its published weights
    hf:OWNER/REPO[/FILE][@REVISION]  a model of the HuggingFace Hub, or a file of it

and anything else is a path. What has to be downloaded is downloaded once, resumed after an
interruption, and compared with its checksum.
"""
