"""What is made of predictions and ground truth besides COCO's metrics, which are pycocotools'."""
